"""A chunk that a block leaves out leaves what its recurrent layer carries as it was."""

import pytest
import torch

from pipeline.data.position_tasks import Regression
from pipeline.engine.scores import Scores
from pipeline.engine.skip import Skip
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.network.recurrent import Recurrent
from pipeline.rules.linear_decoder import build


@pytest.fixture
def rule():
    torch.manual_seed(0)
    spec = BlockSpec(0, 2, (4, 3), (4, 5), (4, 5), Regression(2, (4,)))
    return build(Block(Recurrent("elman", 3, 5)), spec)


def learned(rule, skip, x, *, is_start):
    """One chunk; whether the block left it out."""
    rule.block.body.carried.announce(trains=True, rows=slice(2), num_rows=2, is_start=is_start, is_end=False)
    skip.begin(0, scores := Scores(rule, torch.device("cpu")))
    out, context = rule(x, torch.zeros(2, 4, 2))
    scores.add(rule.learn(context, ()), 2)
    return skip.decide() == [0]


@pytest.mark.parametrize("first", [True, False])
def test_a_left_out_chunk_carries_nothing_on(rule, first):
    skip, carried = Skip({0: rule}), rule.block.body.carried
    x = torch.randn(2, 4, 3)
    if not first:
        assert not learned(rule, skip, x, is_start=True)
    before = None if first else carried.state.clone()
    assert learned(rule, skip, x * float("nan"), is_start=first)
    assert carried.state is None if first else torch.equal(carried.state, before)
    assert not learned(rule, skip, x, is_start=False)
    assert carried.state.isfinite().all()


def test_behind_a_left_out_first_chunk_nothing_is_left_of_another_sequence(rule):
    skip, carried, x = Skip({0: rule}), rule.block.body.carried, torch.randn(2, 4, 3)
    assert not learned(rule, skip, x, is_start=True)
    assert learned(rule, skip, x * float("nan"), is_start=True)
    assert not learned(rule, skip, x, is_start=False)
    torch.testing.assert_close(carried.state[:, 0], rule.block.body(x)[:, -1])
