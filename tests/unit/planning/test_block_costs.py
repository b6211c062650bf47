import time
from pathlib import Path

import pytest
import torch

from pipeline.config import Config
from pipeline.planning.block_costs import block_seconds, measure_blocks
from pipeline.resolve import RunSpec, resolve


@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
@pytest.mark.parametrize("rule", ["linear_decoder", "predsim", "dfa", "backprop"])
def test_every_block_is_timed_and_the_process_is_left_as_it_was(rule, autocast):
    table = {"model": {"name": "mlp", "depth": 2, "width": 8}, "rule": {"name": rule},
             "run": {"matmul_precision": "medium", "autocast": autocast}}  # fmt: skip
    resolved = resolve(Config.from_dict(table), Path("nowhere"))
    found = block_seconds(resolved, 2, torch.device("cpu"))
    assert len(found) == 3 and all(seconds > 0 for seconds in found)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (1, "highest")
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("rule", "model"),
    [
        ({"name": "reinforce"}, {"activation": "bernoulli"}),
        ({"name": "lra_fdbk", "halt": 0.1}, {"activation": "tanh"}),
        ({"name": "dtp"}, {"activation": "tanh"}),
    ],
    ids=["one number per sample", "limits beside the message", "targets"],
)
def test_a_block_is_told_what_the_rule_tells_it(rule, model):
    """Feedback is neither as wide as the output nor one tensor under every rule."""
    table = {"model": {"name": "mlp", "depth": 2, "width": 8, "norm": "none", **model}, "rule": rule}
    resolved = resolve(Config.from_dict(table), Path("nowhere"))
    found = block_seconds(resolved, 1, torch.device("cpu"))
    assert len(found) == 3 and all(seconds > 0 for seconds in found)


@pytest.mark.parametrize(("freeze", "stepped"), [("1", [2, 0]), ("0", [2, 1]), ("1-2", [0])])
def test_a_frozen_block_is_not_stepped_also_where_it_passes_a_derivative_on(monkeypatch, freeze, stepped):
    asked, optimizer_of = [], RunSpec.optimizer_of
    monkeypatch.setattr(RunSpec, "optimizer_of", lambda self, block: asked.append(block) or optimizer_of(self, block))
    table = {"model": {"name": "mlp", "depth": 2, "width": 8}, "rule": {"name": "backprop"},
             "train": {"freeze": freeze}}  # fmt: skip
    found = block_seconds(resolve(Config.from_dict(table), Path("nowhere")), 1, torch.device("cpu"))
    assert asked == stepped and all(seconds > 0 for seconds in found)


def test_blocks_know_how_they_were_measured():
    resolved = resolve(Config.from_dict({"model": {"name": "mlp", "depth": 2, "width": 8}}), Path("nowhere"))
    begun = time.time()
    seconds, taken = measure_blocks(resolved, 1, torch.device("cpu"))
    assert len(seconds) == 3 and begun <= taken.at <= time.time()
    assert taken.share is not None and 0 < taken.share <= 1 and taken.spread >= 1


@pytest.mark.parametrize("rule", ["interlock", "dni", "backprop", "pred", "dfa"])
def test_a_step_is_all_that_a_block_learns(monkeypatch, rule):
    """Also where some of it is learned at once and some from feedback: no weight is without a gradient."""
    found = []

    class Looks:
        def build(self, parameters):
            self.parameters = parameters
            return self

        def step(self):
            found.append(all(p.grad is not None for p in self.parameters))

        def zero_grad(self, *, set_to_none):
            for p in self.parameters:
                p.grad = None

    monkeypatch.setattr(RunSpec, "optimizer_of", lambda self, block: Looks())
    table = {"model": {"name": "mlp", "depth": 2, "width": 8, "norm": "none"}, "rule": {"name": rule}}
    block_seconds(resolve(Config.from_dict(table), Path("nowhere")), 1, torch.device("cpu"))
    assert len(found) >= 3 and all(found)
