"""When something was measured, and how undisturbed."""

import json
import math
import time

import pytest

from pipeline.planning import taken as module
from pipeline.planning.taken import LEAST_SHARE, Repeats, Taken, Watched, repeat


class Clocks:
    """Both clocks of a thread."""

    def __init__(self, monkeypatch):
        self.wall = self.cpu = 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(module.time, "thread_time", lambda: self.cpu)

    def spend(self, wall, cpu):
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def clocks(monkeypatch):
    return Clocks(monkeypatch)


def test_a_thread_that_was_alone_had_a_processor_all_the_time(clocks):
    watched = Watched()
    for wall, cpu in ((2.0, 2.0), (1.0, 0.4)):
        with watched.work():
            clocks.spend(wall, cpu)
        clocks.spend(9.0, 0.0)  # between two pieces
    assert (watched.wall_s, watched.cpu_s) == (3.0, pytest.approx(2.4)) and watched.share == pytest.approx(0.8)
    assert Watched().share is None and Watched(1.0, 1.1).share == 1.0


@pytest.mark.parametrize(("limit_s", "expected"), [(math.inf, 1.0), (6.0, 1.0), (5.0, 5.0), (0.0, 5.0)])
def test_the_shortest_call_within_the_limit_counts_and_never_the_first(clocks, limit_s, expected):
    durations = iter([0.5, 5.0, 1.0, 3.0])
    found = repeat(lambda: clocks.spend(next(durations), 0.0), repeats=3, limit_s=limit_s)
    assert found.least_s == expected


def test_repeats_know_how_disturbed_they_were(clocks):
    durations = iter([(9.0, 9.0), (2.0, 1.0), (1.0, 1.0), (3.0, 1.0)])
    found = repeat(lambda: clocks.spend(*next(durations)), repeats=3)
    assert found.spread == 2.0 and found.watched.share == pytest.approx(0.5)  # the first one does not count
    assert Repeats((0.0, 1.0)).spread is None


@pytest.mark.parametrize(
    ("share", "is_busy"), [(None, False), (1.0, False), (LEAST_SHARE, False), (LEAST_SHARE - 0.01, True), (0.0, True)]
)
def test_less_than_nine_tenths_of_a_processor_is_a_busy_machine(share, is_busy):
    assert Taken(0.0, share).is_busy is is_busy
    assert Taken(0.0, share).is_believed is not is_busy


def test_what_a_busy_machine_measured_is_believed_for_ten_minutes():
    assert Taken(time.time() - 590.0, 0.5).is_believed and not Taken(time.time() - 610.0, 0.5).is_believed


@pytest.mark.parametrize(
    ("share", "age_s", "words"),
    [
        (1.0, 5.0, ""), (None, 59.9, ""), (1.0, 11_530.0, "measured 3 h 12 min ago (--fresh measures again)"),
        (0.616, 0.0, "measured on a busy machine (62 % of a core; --fresh measures again)"),
        (0.5, 90.0, "measured 1 min 30 s ago on a busy machine (50 % of a core; --fresh measures again)"),
    ],
)
def test_old_and_disturbed_measurements_are_told_in_words(share, age_s, words):
    assert Taken(1000.0, share).words(age_s) == words


def test_an_age_is_none_of_the_future():
    assert Taken(1000.0).age_s(1060.0) == 60.0 and Taken(1000.0).age_s(900.0) == 0.0


@pytest.mark.parametrize("found", [Taken(1000.0, 0.5, 1.25), Taken(1000.0)])
def test_it_survives_json(found):
    assert Taken.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    "table", [{}, [], {"at": 1.0, "share": 1.0}, {"at": None, "share": 1.0, "spread": 1.0},
              {"at": 1.0, "share": -1.0, "spread": 1.0}, {"at": math.inf, "share": 1.0, "spread": None}],
)  # fmt: skip
def test_what_is_none_is_refused(table):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Taken.from_dict(table)


def test_no_moment_is_negative():
    with pytest.raises(ValueError, match="nothing was measured so .*Measure again"):
        Taken.from_dict({"at": -1.0, "share": None, "spread": None})


def test_together_they_are_as_old_and_as_disturbed_as_the_worst():
    parts = [Taken(5.0, 0.9, 1.0), Taken(3.0, None, 1.5), Taken(4.0, 0.7)]
    assert Taken.together(parts) == Taken(3.0, 0.7, 1.5) and Taken.together([]) is None
    assert Taken.together([Taken(1.0)]) == Taken(1.0)
