from types import SimpleNamespace

import pytest
import torch
from tests.support.noting_rule import Noting
from torch import nn

from pipeline.data.batches import epoch_order
from pipeline.data.task import Classification
from pipeline.engine.batch_notes import BatchNotes
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.rules import pred
from pipeline.schedules.batching import Batching
from pipeline.schedules.position import Position


def stage(asks=True, num_train=11):
    spec = BlockSpec(0, 2, (4,), (4,), (4,), Classification(4), num_train)
    blocks = [Block(nn.Linear(4, 4)) for _ in range(2)]
    rules = [pred.build(blocks[0], spec, dimdec=8), Noting(blocks[1], spec) if asks else pred.build(blocks[1], spec)]
    return SimpleNamespace(rules=dict(enumerate(rules)), device=torch.device("cpu"))


def batching(microbatches=1, num_train=11):
    return Batching(num_train, 5, 4, 5, microbatches, 1)


def told(notes, rule, epoch, step, microbatch=0):
    notes.tell(Position(epoch, step, microbatch))
    return rule.batch_note


def test_a_run_whose_rules_do_not_ask_has_no_notes():
    assert BatchNotes.of(stage(asks=False), batching(), 0) is None


@pytest.mark.parametrize("microbatches", [1, 3])
def test_places_are_those_of_the_epoch_in_the_order_of_its_parts(microbatches):
    place = stage()
    notes, rule = BatchNotes.of(place, batching(microbatches), 7), place.rules[1]
    for epoch in (0, 2, 1):
        found = [
            told(notes, rule, epoch, 3 * epoch + step, part)
            for step in range(3) for part in range(microbatches)
        ]  # fmt: skip
        assert torch.equal(torch.cat([note.samples for note in found]), epoch_order(7, epoch, 11))
        assert len({note.seed for note in found}) == 3
    assert place.rules[0].batch_note is None


def test_seeds_go_by_step_and_run_alone():
    first, other = (BatchNotes.of(place, batching(), seed) for place, seed in ((stage(), 0), (stage(), 1)))
    seeds = [told(notes, next(iter(notes._rules)), 0, 1).seed for notes in (first, other, first)]
    assert seeds[0] == seeds[2] != seeds[1]


def test_more_samples_than_there_are_begin_again():
    place = stage()
    notes = BatchNotes.of(place, batching(num_train=30), 0)
    places = torch.cat([told(notes, place.rules[1], 0, step).samples for step in range(8)])
    assert len(places) == 30 and places.max() == 10
