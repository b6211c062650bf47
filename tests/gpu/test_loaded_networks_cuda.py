"""A network that was trained on a CUDA device, loaded there: the bits that the run evaluated."""

import pytest
import torch
from tests.support.runs import run

from pipeline.trained.build import load
from pipeline.trained.scoring import evaluate

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("rule", ["linear_decoder", "predsim", "dfa", "backprop"])
def test_a_network_is_scored_where_it_was_trained(tmp_path, rule):
    cuda = {"rule": {"name": rule}, "run": {"device": "cuda"}, "transport": {"name": "shared_memory"}}
    result = run(tmp_path / "run", cuda)
    found = evaluate(tmp_path / "run", data_root=tmp_path)
    assert {"accuracy": found["accuracy"], "loss": found["loss"]} == result["test"]
    network = load(tmp_path / "run", device="cuda")
    x = torch.rand(6, 1, 8, 8, device="cuda")
    assert torch.equal(network(x), network.readout(-1)(x))
    assert evaluate(network, "run.device=cpu")["loss"] == pytest.approx(result["test"]["loss"], rel=1e-3)
