"""Activations on GPUs: over nccl between two devices, through the host between two stages of one."""

import pytest
import torch
from tests.support.processes import results
from tests.support.stage_programs import message, open_transport

pytestmark = [pytest.mark.gpu, pytest.mark.distributed]
EDGES = [(0, 1, 2, 1 << 20), (1, 0, 2, 1 << 20)]

WAYS = [
    pytest.param("process_group", {}, 2, id="nccl"),
    pytest.param("process_group", {"payload": "gloo"}, 1, id="gloo"),
    pytest.param("process_group", {"payload": "streams"}, 1, id="streams"),
    pytest.param("shared_memory", {}, 1, id="shared_memory"),
]


def _exchange(stage_index, folder, name, options, num_devices, rounds):
    device = torch.device("cuda", stage_index % num_devices)
    transport = open_transport(name, stage_index, folder, EDGES, device=str(device), timeout_s=120.0, options=options)
    corrupted = 0
    body = torch.empty(300, 500, device=device)
    for step in range(rounds):
        body.fill_(step)
        labels = torch.full((300,), step, device=device)
        transport.send(message(body.t(), labels, torch.tensor(step), step=step), 1 - stage_index, 60.0)
        body.fill_(-1.0)
        received, _ = transport.recv(1 - stage_index, 60.0)
        assert all(t.device == device for t in received.tensors)
        assert received.position.step == step and received.tensors[0].shape == (500, 300)
        corrupted += any(not bool((t == step).all()) for t in received.tensors)
    transport.close(60.0)
    return corrupted


@pytest.mark.parametrize(("name", "options", "num_devices"), WAYS)
def test_device_tensors_arrive_as_they_were_when_sent(name, options, num_devices, tmp_path):
    if torch.cuda.device_count() < num_devices:
        pytest.skip(f"needs {num_devices} CUDA device(s), there are {torch.cuda.device_count()}")
    assert results(_exchange, 2, tmp_path, name, options, num_devices, 100, timeout=240.0) == [0, 0]
