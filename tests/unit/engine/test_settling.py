"""Rounds between neighbours: who is shown what, wherever the blocks are cut."""

import pytest
import torch
from torch import nn

from pipeline.data.task import Classification
from pipeline.engine.settling import Settling
from pipeline.learning.rule import BlockSpec, Topology
from pipeline.network.block import Block
from pipeline.rules.backprop import Backprop


class Notes(Backprop):
    """Emits its index and the round, and notes what it was shown."""

    topology = Topology.SETTLE
    num_rounds = 3

    def settle(self, context, index, below, above):
        context.append(([t.tolist() for t in below], [t.tolist() for t in above]))
        said = torch.tensor([self.spec.index, index])
        return (said,), (said + 100,)


def rules(blocks):
    spec = {"num_blocks": 4, "in_shape": (2,), "body_shape": (2,), "out_shape": (2,), "task": Classification(2)}
    return {k: Notes(Block(nn.Linear(2, 2)), BlockSpec(index=k, **spec)) for k in blocks}


def walk(parts):
    """All rounds over stages that host ``parts``; what every block was shown."""
    contexts = {k: [] for part in parts for k in part}
    stages = [Settling(rules(part), {k: contexts[k] for k in part}) for part in parts]
    below, above = [()] * len(parts), [()] * len(parts)
    for index in range(stages[0].num_rounds):
        out = [stage.round(index, b, a) for stage, b, a in zip(stages, below, above, strict=True)]
        below = [(), *(up for _, up in out[:-1])]
        above = [*(down for down, _ in out[1:]), ()]
    return contexts


def test_a_round_shows_what_the_neighbours_said_in_the_round_before():
    shown = walk([range(4)])
    assert shown[0] == [([], []), ([], [[101, 100]]), ([], [[101, 101]])]
    assert shown[2] == [([], []), ([[1, 0]], [[103, 100]]), ([[1, 1]], [[103, 101]])]
    assert shown[3] == [([], []), ([[2, 0]], []), ([[2, 1]], [])]


@pytest.mark.parametrize("parts", [[range(0, 1), range(1, 4)], [range(0, 2), range(2, 4)],
                                   [range(k, k + 1) for k in range(4)]])  # fmt: skip
def test_cuts_make_no_difference(parts):
    assert walk(parts) == walk([range(4)])


@pytest.mark.parametrize("settles", [True, False])
def test_a_rule_may_settle_for_learning_alone(monkeypatch, settles):
    monkeypatch.setattr(Notes, "settles_in_evaluation", settles)
    hosted = rules(range(2))
    assert Settling(hosted, {0: [], 1: []}).num_rounds == 3
    for rule in hosted.values():
        rule.eval()
    assert Settling(hosted, {0: [], 1: []}).num_rounds == (3 if settles else 0)


def test_a_rule_that_does_not_settle_says_so():
    spec = BlockSpec(0, 2, (2,), (2,), (2,), Classification(2))
    rule = Backprop(Block(nn.Linear(2, 2)), spec)
    assert rule.num_rounds == 0
    with pytest.raises(TypeError, match="declares the topology neighbour and was asked to settle. Define settle"):
        rule.settle(None, 0, (), ())
