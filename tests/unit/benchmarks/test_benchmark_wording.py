"""How figures are written."""

import pytest

from benchmarks import wording


@pytest.mark.parametrize(("value", "text"), [(2e-5, "20.0 us"), (0.0034, "3.40 ms"), (1.5, "1.50 s"), (75, "75.0 s")])
def test_times_have_the_unit_that_suits_them(value, text):
    assert wording.seconds(value) == text


def test_spreads_are_bracketed_where_there_is_one():
    assert wording.spread_text({"median": 2.0, "min": 1.0, "max": 3.0}) == "2.00 (1.00 to 3.00)"
    assert wording.spread_text({"median": 2.0, "min": 2.0, "max": 2.0}) == wording.spread_text(2) == "2.00"
    assert wording.spread_text(None) == wording.share_text(None) == "-"
    assert wording.share_text(0.834) == "83 %" and wording.bandwidth(2.5e9) == "2.50 GB/s"
    assert wording.bandwidth(2.5e7) == "25.0 MB/s"


def test_numbers_are_found_at_any_depth():
    nested = {"a": 1, "b": {"c": {"median": 2.0, "min": 1.0, "max": 3.0}, "d": "text", "e": True}}
    assert list(wording.numbers(nested)) == [("a", "1.00"), ("b, c", "2.00 (1.00 to 3.00)")]
