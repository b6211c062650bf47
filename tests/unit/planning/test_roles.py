import pytest

from pipeline.learning.rule import Topology
from pipeline.planning.roles import chills_of, parts_of, role_of
from pipeline.planning.stage_model import Part, Port, Role, walk
from pipeline.schedules.actions import one_f_one_b, stream

TWO = [range(2), range(2, 3)]
PAIRS = [range(2), range(2, 4)]
COSTS = {Part.BEFORE: 1.0, Part.AFTER: 0.5, Part.LEARN: 2.0, Part.STEP: 0.25}


@pytest.mark.parametrize(
    ("topology", "partition", "stage", "role"),
    [(Topology.LOCAL, TWO, 0, Role(False, True)), (Topology.LOCAL, TWO, 1, Role(True, False)),
     (Topology.NEIGHBOUR, TWO, 0, Role(False, True, True, True)),
     (Topology.NEIGHBOUR, TWO, 1, Role(True, False, False, False, "forward")),
     (Topology.NEIGHBOUR, PAIRS, 1, Role(True, False, True, False, "learn")),
     (Topology.NEIGHBOUR, [*TWO, range(3, 4)], 1, Role(True, True, True, True, "learn")),
     (Topology.NEIGHBOUR, [range(3)], 0, Role(False, False, True)),
     (Topology.BROADCAST, PAIRS, 1, Role(True, False, True, False, "forward")),
     (Topology.BROADCAST, PAIRS, 0, Role(False, True, True, True)),
     (Topology.BROADCAST, [range(3)], 0, Role(False, False, True))],
)  # fmt: skip
def test_the_role_follows_from_the_rule_and_the_place(topology, partition, stage, role):
    assert role_of(topology, partition, stage) == role


def test_hidden_blocks_that_learn_at_once_tell_at_once():
    middle = role_of(Topology.NEIGHBOUR, [*TWO, range(3, 4)], 1, learns_at_once=True)
    assert middle == Role(True, True, True, True, "forward")
    assert role_of(Topology.NEIGHBOUR, PAIRS, 1, learns_at_once=True) == Role(True, False, True, False, "forward")
    assert role_of(Topology.NEIGHBOUR, PAIRS, 0, learns_at_once=True) == Role(False, True, True, True)


def walked(actions, role):
    """The marks of a stage whose parts take what COSTS says, and which waits ten seconds at every port."""
    now, marks = 100.0, []
    for action in actions:
        for item in walk(action, role):
            if isinstance(item, Part):
                now += COSTS[item]
            else:
                marks.append((item, now, now + 10.0))
                now += 10.0
    return marks


@pytest.mark.parametrize("order", [stream, one_f_one_b])
@pytest.mark.parametrize("role", [Role(False, True, True, True), Role(True, True, True, True, "learn")])
def test_what_a_step_takes_is_found_again(order, role):
    actions = list(order([4] * 5, stage_index=0, num_stages=3, in_flight=1, feedback=True))
    found = parts_of(actions, role, walked(actions, role), 100.0, 0)
    total = 4 * sum(COSTS[part] for part in (Part.BEFORE, Part.AFTER, Part.LEARN)) + COSTS[Part.STEP]
    again = 4 * sum(found[part] for part in (Part.BEFORE, Part.AFTER, Part.LEARN)) + found[Part.STEP]
    assert again == pytest.approx(total)


def test_parts_between_two_meetings_are_told_apart_as_far_as_they_can_be():
    actions = list(stream([1] * 5, in_flight=1, feedback=False))
    found = parts_of(actions, Role(True, True), walked(actions, Role(True, True)), 100.0, 0)
    assert found[Part.BEFORE] == pytest.approx(1.0)
    assert found[Part.AFTER] == pytest.approx(0.5) and found[Part.LEARN] == 0.0
    assert found[Part.STEP] == pytest.approx(0.25)  # replicas share everything but this
    alone = parts_of(actions, Role(), walked(actions, Role()), 100.0, 0)
    assert alone[Part.BEFORE] + alone[Part.AFTER] == pytest.approx(1.5) and alone[Part.STEP] == pytest.approx(0.25)


def test_the_first_marks_may_be_left_out():
    actions = list(stream([1] * 5, in_flight=1, feedback=False))
    marks = walked(actions, Role())
    marks[0] = (Port.MEET, marks[0][1] - 1.0, marks[0][2])
    found = parts_of(actions, Role(), marks, 0.0, 1)
    assert sum(found.values()) == pytest.approx(1.75)


@pytest.mark.parametrize("marks", [[], [(Port.HEAR, 0.0, 0.0)]])
def test_another_order_than_that_of_the_actions_is_found(marks):
    actions = list(stream([1], in_flight=1, feedback=False))
    with pytest.raises(ValueError, match=r"stage and actions disagree .*expected: TAKE at F0.0"):
        parts_of(actions, Role(True, True), marks, 0.0, 0)


def waited(works, waits, messages=2):
    """The marks of steps that work so long, after each of their messages has been waited for."""
    now, marks = 100.0, []
    for work_s, wait_s in zip(works, waits, strict=True):
        for _ in range(messages):
            marks.append((Port.HEAR, now, now + wait_s))
            now += wait_s + work_s / messages
        marks.append((Port.PASS, now, now + 7.0))  # what is sent is none of its work
        marks.append((Port.DONE, now + 7.0, now + 7.0))
        now += 7.0
    return marks


def test_work_behind_waits_is_compared_with_that_behind_none():
    # The first two steps do not count; then four without waits and four with, in turns; the third of each is disturbed.
    works = [50.0, 50.0, 4.0, 5.0, 4.0, 5.0, 9.0, 9.0, 4.0, 5.0]
    marks = waited(works, [0.0, 0.5] * 5)
    assert chills_of(marks, 100.0, 2, skip=2) == [(0.0, 0.0), (0.5, pytest.approx(0.5))]


def test_longer_waits_never_make_a_stage_faster():
    marks = waited([4.0, 6.0, 5.0, 7.0] * 4, [0.0, 0.5, 1.0, 2.0] * 4, messages=1)
    assert chills_of(marks, 100.0, 4, skip=0) == [(0.0, 0.0), (0.5, 2.0), (1.0, 2.0), (2.0, 3.0)]


def test_a_stage_that_waits_for_nothing_does_not_cool_down():
    marks = [(Port.PASS, 101.0, 102.0), (Port.DONE, 103.0, 103.0)] * 4
    assert chills_of(marks, 100.0, 2, skip=0) == []
