"""A stage right below the last one, which both broadcasts and returns over one edge."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.engine.message import Kind, Message
from pipeline.engine.mixed_program import MixedProgram, listeners
from pipeline.engine.requests import Receive
from pipeline.learning.rule import Topology
from pipeline.mixture.routes import Routes
from pipeline.schedules.position import Position

FIRST, SECOND = Position(0, 0), Position(0, 1)


def asked(program, kind, position, messages):
    """What the program takes for ``kind``, of messages that come in this order; and how many it received."""
    steps, count = MixedProgram._awaited(program, 1, kind, position), 0
    reply = None
    while True:
        try:
            request = steps.send(reply)
        except StopIteration as end:
            return end.value, count
        assert request == Receive(1)
        reply, count = messages.pop(0), count + 1


def message(kind, position):
    return Message(kind, position, 1.0, (torch.zeros(1),))


@pytest.fixture
def program():
    mixed = SimpleNamespace(needs_broadcast=True, needs_above=True, channels_last=False)
    return SimpleNamespace(_mixed=mixed, stage=mixed, stage_index=0, num_stages=2, _early={})


def test_what_comes_early_is_kept_until_it_is_due(program):
    sent = [message(Kind.BROADCAST, FIRST), message(Kind.BROADCAST, SECOND), message(Kind.FEEDBACK, FIRST),
            message(Kind.FEEDBACK, SECOND)]  # fmt: skip
    queue = list(sent)
    assert asked(program, Kind.BROADCAST, FIRST, queue) == (sent[0], 1)
    assert asked(program, Kind.FEEDBACK, FIRST, queue) == (sent[2], 2)
    assert asked(program, Kind.BROADCAST, SECOND, queue) == (sent[1], 0)
    assert asked(program, Kind.FEEDBACK, SECOND, queue) == (sent[3], 1)
    assert program._early == {}


@pytest.mark.parametrize(("kind", "position"), [(Kind.TRAIN, SECOND), (Kind.FEEDBACK, FIRST)])
def test_what_can_not_be_due_any_more_is_an_error(program, kind, position):
    with pytest.raises(RuntimeError, match=r"stage 0 and stage 1 disagree about what comes next .*expected: BROADCAST"):
        asked(program, Kind.BROADCAST, SECOND, [message(kind, position)])


def test_a_broadcast_goes_to_stages_that_await_one():
    letters = {"L": Topology.LOCAL, "N": Topology.NEIGHBOUR, "B": Topology.BROADCAST}
    routes = Routes(tuple(letters[letter] for letter in "LBNLBB"))
    assert listeners(routes, [range(0, 1), range(1, 3), range(3, 4), range(4, 6)]) == [1]
    assert listeners(routes, [range(0, 6)]) == [] and routes.relays(3) and not routes.relays(2)
