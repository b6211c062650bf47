import pytest

from pipeline.engine.staleness import Staleness
from pipeline.schedules.actions import Op, stream


def test_nothing_was_updated():
    assert Staleness([3]).epoch() == Staleness([]).run() == {"mean": None, "max": None, "counts": []}


def test_a_step_counts_the_updates_since_the_forward_pass():
    staleness = Staleness([4, 5])
    first = dict(staleness.versions)
    staleness.learn(5, first[5])
    staleness.step()
    staleness.step()  # nothing was learned in between: no update
    assert staleness.versions == {4: 0, 5: 1}
    staleness.learn(5, first[5])
    staleness.learn(4, first[4])
    staleness.step()
    assert staleness.run() == {"mean": 1 / 3, "max": 1, "counts": [2, 1]}


def test_an_update_from_several_micro_batches_is_as_late_as_the_latest_of_them():
    staleness = Staleness([0])
    for versions in ([0], [0], [1, 0, 2]):
        for version in versions:
            staleness.learn(0, version)
        staleness.step()
    assert staleness.run()["counts"] == [1, 1, 1]


def test_epochs_are_counted_apart_and_the_run_as_a_whole():
    staleness = Staleness([0])
    for late in (0, 1, 0):
        staleness.begin_epoch()
        staleness.learn(0, staleness.versions[0])
        staleness.step()
        for _ in range(late):
            staleness.learn(0, staleness.versions[0] - 1)
            staleness.step()
        assert staleness.epoch()["counts"] == [1, late][: late + 1]
    assert staleness.run() == {"mean": 0.25, "max": 1, "counts": [3, 1]}


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_the_order_of_work_makes_updates_as_late_as_it_says(in_flight):
    staleness, held = Staleness([0]), {}
    for action in stream([1] * 9, in_flight=in_flight, feedback=True):
        if action.op is Op.FORWARD:
            held[action.step] = staleness.versions[0]
        elif action.op is Op.LEARN:
            staleness.learn(0, held.pop(action.step))
        else:
            staleness.step()
    assert staleness.run()["counts"] == [1] * (in_flight - 1) + [9 - in_flight + 1]


def test_what_is_forgotten_is_no_update():
    lateness = Staleness([0, 1])
    lateness.learn(0, 0)
    lateness.learn(1, 0)
    lateness.forget([1, 5])
    lateness.step()
    assert lateness.versions == {0: 1, 1: 0} and lateness.epoch()["counts"] == [1]
