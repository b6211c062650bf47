"""Blocks with losses of their own: where those do not reach, and where there is nothing to learn."""

from functools import partial

import pytest
import torch
from tests.support.runs import run
from torch import nn

from pipeline.data.task import Classification
from pipeline.learning.aux_head import ReadOut
from pipeline.learning.descent import descend_on
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.rules import aux, linear_decoder, pred, sim

SINE = {
    "model": {"name": "rnn", "depth": 1, "width": 6, "radius": 0.9, "trains": "none"},
    "dataset": {"name": "sine", "length": 8, "chunk": 4, "num_train": 8, "num_test": 4},
    "rule": {"name": "linear_decoder", "decoder": "fixed"}, "train": {"epochs": 1, "batch_size": 4},
    "run": {"stages": 1, "threads": 1, "predict": False}, "transport": {"name": "inline"},
}  # fmt: skip


def rule_of(body, outlet, build=linear_decoder.build):
    spec = BlockSpec(0, 2, (6,), (8,), (4,), Classification(3), 0)
    return build(Block(body, outlet), spec)


@pytest.mark.parametrize("rule", [linear_decoder, pred, sim, aux])
@pytest.mark.parametrize("body", [nn.Linear(6, 8), nn.Sequential(nn.Linear(6, 8), nn.GELU())], ids=["closed", "graph"])
def test_an_outlet_that_learns_is_refused_since_it_would_depend_on_the_stages(body, rule):
    """Its gradient would be that of the block above, where both are on one stage, and none where they are not."""
    with pytest.raises(ValueError, match=r"does not train an outlet, .* in block 0, expected: one without parameters"):
        rule_of(body, nn.Linear(8, 4), rule.build)
    fixed = nn.Linear(8, 4).requires_grad_(False)
    out, _ = rule_of(body, fixed, rule.build)(torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))
    assert out.shape == (5, 4) and not out.requires_grad


def test_what_is_sent_has_no_graph_however_the_outlet_came_by_it():
    class Adding(nn.Module):
        """Adds what is no parameter of its own, and learns elsewhere."""

        shift = torch.zeros(8, requires_grad=True)

        def forward(self, x):
            return x + self.shift

    for body in (nn.Linear(6, 8), nn.Sequential(nn.Linear(6, 8), nn.GELU())):
        out, _ = rule_of(body, Adding())(torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))
        assert not out.requires_grad


def test_an_outlet_behind_which_the_loss_is_read_learns():
    read_out = ReadOut(head="mlp")
    rule = rule_of(nn.Linear(6, 8), outlet := nn.Linear(8, 4), partial(aux.build, read_out=read_out))
    _, context = rule(torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))
    rule.learn(context, ())
    assert outlet.weight.grad is not None


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_loss_of_fixed_weights_moves_nothing(weight):
    loss = descend_on(torch.tensor(0.5), weight)
    assert loss == 0.5 and not loss.requires_grad


@pytest.mark.parametrize("fused", ["block", "stage"])
def test_a_block_with_nothing_to_train_is_run(tmp_path, fused):
    """Fixed weights under a fixed decoder: only the output learns."""
    result = run(tmp_path / "run", {"run": {"learn_after": fused}}, base=SINE)
    assert result["status"] == "completed" and result["steps"] > 0
