from collections import Counter
from itertools import product

import pytest

from pipeline.schedules.actions import Op, one_f_one_b, stream

COUNTS = [(), (1,), (1, 1, 1, 1, 1, 1), (4, 4, 4), (4, 2), (3, 3, 1)]


def drawn(actions):
    return " ".join(map(str, actions))


def table(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("counts", "in_flight", "feedback", "expected"),
    [
        pytest.param([1, 1, 1], 1, False, """
            F0.0 S0.0
            F1.0 S1.0
            F2.0 S2.0""", id="local"),
        pytest.param([3, 2], 1, False, """
            F0.0 F0.1 F0.2 S0.0
            F1.0 F1.1 S1.0""", id="local, micro-batches"),
        pytest.param([1, 1, 1], 1, True, """
            F0.0 L0.0 S0.0
            F1.0 L1.0 S1.0
            F2.0 L2.0 S2.0""", id="feedback, nothing is late"),
        pytest.param([4, 2], 1, True, """
            F0.0 F0.1 F0.2 F0.3 L0.0 L0.1 L0.2 L0.3 S0.0
            F1.0 F1.1 L1.0 L1.1 S1.0""", id="gpipe"),
        pytest.param([1, 1, 1, 1, 1], 3, True, """
            F0.0 S0.0
            F1.0 S1.0
            F2.0 S2.0 L0.0 S0.0
            F3.0 S3.0 L1.0 S1.0
            F4.0 S4.0 L2.0 S2.0
                      L3.0 S3.0
                      L4.0 S4.0""", id="feedback, two steps late"),
        pytest.param([1, 1], 3, True, """
            F0.0 S0.0
            F1.0 S1.0 L0.0 S0.0
                      L1.0 S1.0""", id="an epoch shorter than what may be under way"),
        pytest.param([2, 2, 1], 2, True, """
            F0.0 F0.1 S0.0
            F1.0 F1.1 S1.0 L0.0 L0.1 S0.0
            F2.0      S2.0 L1.0 L1.1 S1.0
                           L2.0      S2.0""", id="late, micro-batches"),
        pytest.param([], 2, True, "", id="nothing"),
    ],
)  # fmt: skip
def test_stream(counts, in_flight, feedback, expected):
    assert drawn(stream(counts, in_flight=in_flight, feedback=feedback)) == table(expected)


@pytest.mark.parametrize(
    ("counts", "stages"),
    [
        pytest.param([4], [
            "F0.0 F0.1 F0.2 L0.0 F0.3 L0.1 L0.2 L0.3 S0.0",
            "F0.0 F0.1 L0.0 F0.2 L0.1 F0.3 L0.2 L0.3 S0.0",
            "F0.0 L0.0 F0.1 L0.1 F0.2 L0.2 F0.3 L0.3 S0.0"], id="3 stages"),
        pytest.param([4, 1], [
            "F0.0 F0.1 L0.0 F0.2 L0.1 F0.3 L0.2 L0.3 S0.0    F1.0 L1.0 S1.0",
            "F0.0 L0.0 F0.1 L0.1 F0.2 L0.2 F0.3 L0.3 S0.0    F1.0 L1.0 S1.0"], id="2 stages, a smaller batch"),
        pytest.param([2], [
            "F0.0 F0.1 L0.0 L0.1 S0.0",
            "F0.0 F0.1 L0.0 L0.1 S0.0",
            "F0.0 F0.1 L0.0 L0.1 S0.0",
            "F0.0 L0.0 F0.1 L0.1 S0.0"], id="fewer micro-batches than stages"),
    ],
)  # fmt: skip
def test_one_f_one_b(counts, stages):
    found = [drawn(one_f_one_b(counts, stage_index=s, num_stages=len(stages))) for s in range(len(stages))]
    assert found == [table(stage) for stage in stages]


def orders():
    """Every order in small, with the most micro-batches that it may hold, and whether it waits for feedback."""
    for counts, n in product(COUNTS, (1, 2, 3, 9)):
        most = max((sum(counts[i : i + n]) for i in range(len(counts))), default=0)
        yield pytest.param(list(stream(counts, in_flight=n, feedback=True)), counts, most, id=f"stream {counts} {n}")
    for counts, num_stages in product(COUNTS, (1, 2, 4)):
        for s in range(num_stages):
            order = list(one_f_one_b(counts, stage_index=s, num_stages=num_stages))
            yield pytest.param(order, counts, num_stages - s, id=f"1f1b {counts} {s}/{num_stages}")


@pytest.mark.parametrize(("order", "counts", "most"), list(orders()))
def test_every_forward_is_learned_once_and_no_more_is_held_than_allowed(order, counts, most):
    every = {(step, m) for step, count in enumerate(counts) for m in range(count)}
    held, learned = [], []
    for action in order:
        key = action.step, action.microbatch
        if action.op is Op.FORWARD:
            held.append(key)
            assert len(held) <= most
        elif action.op is Op.LEARN:
            assert held.pop(0) == key  # first in, first out: feedback comes over a queue
            learned.append(key)
    assert held == []
    assert Counter(learned) == Counter(every)
    assert learned == sorted(learned)


@pytest.mark.parametrize(("order", "counts", "most"), list(orders()))
def test_what_was_learned_is_applied_before_the_next_batch_is_learned_from(order, counts, most):
    pending = set()
    for action in order:
        if action.op is Op.LEARN:
            pending.add(action.step)
        elif action.op is Op.STEP and action.step in pending:
            pending.remove(action.step)
        assert len(pending) <= 1
    assert pending == set()


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_without_feedback_a_step_follows_its_batch_at_once(counts):
    found = list(stream(counts, in_flight=5, feedback=False))
    assert [a.op for a in found] == [op for n in counts for op in (*[Op.FORWARD] * n, Op.STEP)]
    assert [a.step for a in found if a.op is Op.STEP] == list(range(len(counts)))


def order_of(kind, counts, stage, num_stages):
    if kind == "1f1b":
        return one_f_one_b(counts, stage_index=stage, num_stages=num_stages)
    in_flight = num_stages - stage if kind == "pipedream" else int(kind[-1])
    return stream(counts, in_flight=in_flight, feedback=True)


@pytest.mark.parametrize("num_stages", [1, 2, 3, 5])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("kind", ["stream 1", "stream 3", "1f1b", "pipedream"])
def test_stages_never_wait_in_a_circle(kind, counts, num_stages):
    """All lists together, one activation under way between two stages at most, feedback without bound."""
    lists = [list(order_of(kind, counts, s, num_stages)) for s in range(num_stages)]
    position, up, down = [0] * num_stages, [[] for _ in range(num_stages)], [[] for _ in range(num_stages)]
    last, moved = num_stages - 1, True
    while moved:
        moved = False
        for s in range(num_stages):
            if position[s] == len(lists[s]):
                continue
            action = lists[s][position[s]]
            key = action.step, action.microbatch
            if action.op is Op.FORWARD:
                if (s > 0 and not up[s]) or (s < last and up[s + 1]):
                    continue
                assert s == 0 or up[s].pop(0) == key
                if s < last:
                    up[s + 1].append(key)
            elif action.op is Op.LEARN:
                if s < last and not down[s]:
                    continue
                assert s == last or down[s].pop(0) == key
                if s > 0:
                    down[s - 1].append(key)
            position[s] += 1
            moved = True
    assert position == [len(actions) for actions in lists]
