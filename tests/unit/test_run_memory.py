"""The memory that a run needs at least, and the refusal of one that cannot fit."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from tests.support.runs import NUM_STEPS, SMALL, merged, run

from pipeline import memory
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.records.snapshots import complete_snapshots, read_block
from pipeline.resolve import data_bytes, resolve
from pipeline.schedules.replicas import Replicas
from workers import memory as run_memory
from workers.memory import activation_bytes, check_memory, probe_bytes, ring_bytes, weight_bytes
from workers.placement import Host, place, this_host
from workers.transport import Reach

HALVES = (range(0, 2), range(2, 5))
BATCH = SMALL["train"]["batch_size"]
PROCESSES = {"run": {"stages": 2}, "transport": {"name": "auto"}}


def resolved_run(tmp_path, changes=None):
    return resolve(Config.from_dict(merged(SMALL, changes or {})), tmp_path)


def test_weights_are_counted_with_what_training_adds(tmp_path):
    resolved = resolved_run(tmp_path, {"rule": {"name": "backprop"}, "model": {"name": "mlp", "depth": 1, "width": 4,
                                                                               "norm": "none"}})  # fmt: skip
    bytes_of_all = 4 * (64 * 4 + 4 + 4 * 10 + 10)
    assert sum(resolved.state_bytes) == sum(resolved.trained_bytes) == bytes_of_all
    assert weight_bytes(resolved, range(0, 2)) == 4 * bytes_of_all  # a gradient, and Adam's two


def test_copies_that_may_be_chosen_are_of_blocks_that_train(tmp_path):
    base = {"dataset": {"validation": 0.1, "crop_padding": 1}, "train": {"epochs": 9}}
    whole = resolved_run(tmp_path, base)
    some = resolved_run(tmp_path, merged(base, {"train": {"freeze": "0-3"}}))
    assert weight_bytes(some, range(0, 4)) == sum(some.state_bytes[:4])
    assert weight_bytes(some, range(4, 5)) == weight_bytes(whole, range(4, 5)) == 7 * whole.state_bytes[4]


def test_one_block_at_a_time_is_trained_in_sequential_mode(tmp_path):
    both = [resolved_run(tmp_path, {"schedule": {"mode": mode}}) for mode in ("parallel", "sequential")]
    parallel, sequential = (weight_bytes(resolved, HALVES[1]) for resolved in both)
    assert sequential < parallel


@pytest.mark.parametrize(("rule", "in_flight", "batches"), [("dfa", 1, 1), ("dfa", 3, 3), ("pred", 3, 1)])
def test_batches_in_flight_hold_activations(tmp_path, rule, in_flight, batches):
    resolved = resolved_run(tmp_path, {"rule": {"name": rule}, "train": {"in_flight": in_flight, "eval_batch_size": 1}})
    blocks = 2 if rule == "dfa" else 1
    border = BATCH * 10 * 10
    assert activation_bytes(resolved, HALVES, 0) == BATCH * batches * blocks * 32 * 4 + border


PROBED = {
    "schedule": {"mode": "gated"}, "gate": {"form": "G2", "probe_every": 3, "probe_samples": 500},
    "snapshot": {"every_epochs": 1},
}  # fmt: skip
"""A probe that is larger than any batch."""


def test_a_probe_is_counted_as_what_a_gated_run_has(tmp_path):
    changes = merged(PROBED, {"run": {"stages": 2, "partition": [2, 3], "threads": 1},
                              "transport": {"name": "shared_memory"}})  # fmt: skip
    resolved, plain = resolved_run(tmp_path, changes), resolved_run(tmp_path)
    table = run(tmp_path / "run", changes)
    queues = [stage["queue_bytes"] for stage in table["stages"]]
    estimate = ring_bytes(resolved, HALVES, range(2), mapped=True)
    assert queues == [pytest.approx(estimate, rel=0.01), 0]  # slots are rounded up
    assert estimate > 2 * ring_bytes(plain, HALVES, range(2), mapped=True)
    cut = complete_snapshots(tmp_path / "run")[0]
    files = [read_block(cut, k).tensors for k in range(5)]
    kept = [sum(t.nbytes for name, t in tensors.items() if name.endswith("gate/last")) for tensors in files]
    assert kept[0] == 0 and all(kept[1:]) and probe_bytes(resolved, HALVES[1]) == sum(kept[2:])
    samples = 500 * 64 * 4  # of the probe, where block 0 is
    assert probe_bytes(resolved, HALVES[0]) == samples + kept[1] and probe_bytes(plain, HALVES[0]) == 0
    assert activation_bytes(resolved, HALVES, 1) > activation_bytes(plain, HALVES, 1)


def test_queues_hold_an_epoch_at_most_unless_they_are_mapped(tmp_path):
    resolved = resolved_run(tmp_path, {"transport": {"name": "auto", "depth": 1000}})
    slot = BATCH * (32 * 4 + 8)
    assert ring_bytes(resolved, HALVES, range(2), mapped=True) == 1000 * slot
    assert ring_bytes(resolved, HALVES, range(2), mapped=False) == (NUM_STEPS + 2) * slot
    assert ring_bytes(resolved, HALVES, (), mapped=True) == 0


def test_estimates_are_below_what_a_run_takes(tmp_path):
    result = run(tmp_path / "run", {"model": {"name": "mlp", "depth": 3, "width": 256}})
    resolved = resolved_run(tmp_path, {"model": {"name": "mlp", "depth": 3, "width": 256}})
    (stage,) = result["stages"]
    taken = 2 * stage["parameter_bytes"] + stage["optimizer_bytes"]  # gradients are as large as the weights
    assert 0.9 * taken < weight_bytes(resolved, range(0, 4)) <= taken


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dataset": {"name": "noise", "num_train": 2**31 - 1}}, r"GiB for the data set.*Use fewer"),
        ({"model": {"name": "mlp", "width": 10**9}}, r"GiB for the weights of block 0, linear .*Make it smaller"),
        ({"transport": {"name": "auto", "depth": 1_000_000}, "train": {"batch_size": 1000}},
         r"GiB for messages in flight.*Lower what the largest part comes from"),
        ({"model": {"name": "mlp", "depth": 40, "width": 2000}, "rule": {"name": "pred"}},
         r"GiB for weights, gradients and the optimizer"),
    ],
)
def test_what_cannot_fit_is_refused(tmp_path, monkeypatch, changes, text):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2 * 2**30)
    with pytest.raises(ConfigError, match=text):
        resolved = resolved_run(tmp_path, merged(PROCESSES, changes))
        place(resolved, this_host())


def test_a_gpu_has_memory_of_its_own(tmp_path, monkeypatch):
    class Small:
        total_memory = 2**10

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Small)
    resolved = resolved_run(tmp_path)
    with pytest.raises(ConfigError, match=r"at most 0.00098 MiB, what there is on cuda:1"):
        check_memory(resolved, HALVES, ("cpu", "cuda:1"), 2, Reach.HOST)


def test_processes_count_and_stages_elsewhere_do_not(tmp_path, monkeypatch):
    resolved = resolved_run(tmp_path)
    seen = []
    monkeypatch.setattr(run_memory, "check_room", lambda parts, *_: seen.append(dict(parts)))
    check_memory(resolved, HALVES, ("cpu", "cpu"), 1, Reach.ANYWHERE)
    check_memory(resolved, HALVES, ("cpu", "cpu"), 2, Reach.PROCESS)
    assert [parts["for the stages' processes"] for parts in seen] == [run_memory.PROCESS_BYTES, 0]
    assert seen[0]["for weights, gradients and the optimizer"] == weight_bytes(resolved, HALVES[0])


@pytest.mark.parametrize(("host_of", "here"), [((0, 1, 1, 1), (0,)), ((0, 1, 1, 0), (0, 3))])
def test_processes_of_rank_0s_host_count_whichever_they_are(tmp_path, monkeypatch, host_of, here):
    changes = {"rule": {"name": "pred"}, "train": {"microbatches": 3}, "run": {"stages": 2, "replicas": [1, 3]},
               "transport": {"name": "process_group"}}  # fmt: skip
    resolved = resolved_run(tmp_path, changes)
    seen = []
    monkeypatch.setattr(run_memory, "check_room", lambda parts, *_: seen.append(dict(parts)))
    placed = place(resolved, Host(4, 0, 4, 1, host_of))
    check_memory(resolved, placed.partition, placed.devices, here, Reach.ANYWHERE, placed.replicas)
    assert seen[0] == seen[1] and seen[0]["for the stages' processes"] == len(here) * run_memory.PROCESS_BYTES
    assert seen[0]["for the data set"] == data_bytes(resolved.data)


def test_samples_are_counted_by_the_form_they_are_kept_in(tmp_path):
    image, features = ({"name": "noise", "shape": shape, "num_train": 7, "num_test": 3} for shape in ([1, 4, 4], [16]))
    specs = [resolved_run(tmp_path, {"dataset": d, "train": {"batch_size": 7}}).data for d in (image, features)]
    assert [data_bytes(spec) for spec in specs] == [10 * (16 + 8), 10 * (64 + 8)]
    assert data_bytes(replace(specs[0], num_train=0)) == 3 * (16 + 8)


def test_replicas_each_have_weights_data_and_queues(tmp_path):
    resolved = resolved_run(tmp_path, {"rule": {"name": "pred"}, "train": {"microbatches": 2}})

    def needed(counts):
        replicas, found = Replicas(counts), {}
        with mock.patch.object(run_memory, "check_room", lambda parts, *_: found.update(parts)):
            number = replicas.num_processes
            check_memory(resolved, HALVES, ["cpu"] * number, number, Reach.HOST, replicas)
        return found

    one, both = needed((1, 1)), needed((2, 2))
    weights = "for weights, gradients and the optimizer"
    assert both[weights] == 2 * one[weights] + 2 * sum(resolved.trained_bytes)  # sums stand beside gradients
    for name in ("for the data set", "for activations", "for the stages' processes"):
        assert both[name] == 2 * one[name]
    assert both["for messages in flight"] > 2 * one["for messages in flight"]
