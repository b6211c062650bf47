"""Which finding is named, whatever the order in which stages report."""

from itertools import permutations

import pytest

from pipeline.records.first_bad import FirstBad


def found(block, step, what="loss"):
    return {"block": block, "epoch": 0, "step": step, "since": step, "what": what, "name": "", "value": "nan"}


def test_nothing_found():
    first = FirstBad(2)
    assert first.hear(0, 5, None, whole=True) is None and first.hear(1, 5, None, whole=True) is None


def test_a_finding_waits_until_every_stage_has_looked_that_far():
    first = FirstBad(3)
    assert first.hear(0, 9, found(0, 7), whole=False) is None
    assert first.hear(1, 6, None, whole=True) is None
    assert first.hear(2, 7, None, whole=False) is None
    assert first.hear(1, 7, None, whole=False) == found(0, 7)


REPORTS = [(0, 9, found(1, 7)), (1, 8, found(2, 5)), (2, 12, found(3, 5))]


@pytest.mark.parametrize("order", list(permutations(REPORTS)))
def test_the_earliest_step_and_then_the_lowest_block(order):
    first = FirstBad(3)
    told = [first.hear(*report, whole=False) for report in order]
    assert told == [None, None, found(2, 5)]


def test_an_earlier_finding_of_the_same_stage_takes_its_place():
    first = FirstBad(2)
    assert first.hear(0, 3, found(1, 5), whole=False) is None
    assert first.hear(1, 9, None, whole=False) is None
    assert first.hear(0, 4, found(0, 4), whole=False) == found(0, 4)


def test_weights_come_after_all_losses_of_their_step():
    first = FirstBad(2)
    assert first.hear(0, 7, found(0, 7, "weight"), whole=True) is None
    assert first.hear(1, 7, None, whole=False) is None
    assert first.hear(1, 7, found(2, 7), whole=True) == found(2, 7)


def test_news_that_come_late_take_nothing_back():
    first = FirstBad(2)
    first.hear(0, 9, None, whole=False)
    first.hear(0, 4, None, whole=False)
    assert first.hear(1, 8, found(3, 8), whole=False) == found(3, 8)
