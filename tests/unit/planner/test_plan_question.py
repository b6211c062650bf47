import math

import pytest

from pipeline.errors import ConfigError
from workers.planner.links import Link, parse_link, parse_replicas, parse_stages
from workers.planner.text import rate_text


@pytest.mark.parametrize(
    ("text", "link"),
    [("1Gbit,50us", Link(1e9, 50e-6)), ("100 Mbit/s", Link(1e8, 0.0)), ("10mbit, 0.5ms", Link(1e7, 5e-4)),
     (".5Tbit,1s", Link(5e11, 1.0)), ("9600bit", Link(9600.0, 0.0))],
)  # fmt: skip
def test_a_link_has_a_rate_and_a_latency(text, link):
    found = parse_link(text)
    assert found.bits_per_s == pytest.approx(link.bits_per_s) and found.latency_s == pytest.approx(link.latency_s)


ENDLESS = "9" * 400
NO_LINKS = [
    "", "1", "fast", "1Gbyte", "1Gbit,50", "1Gbit,50min", "0Mbit", "-1Gbit", "1Gbit,,", f"{ENDLESS}Gbit",
    f"1Gbit,{ENDLESS}s",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_LINKS)
def test_what_is_no_link_is_refused_with_the_units_there_are(text):
    told = r"cannot read the link .*bit, kbit, mbit, gbit.* ns, us, ms, s, e.g. 1Gbit,50us"
    with pytest.raises(ConfigError, match=told):
        parse_link(text)


def test_stages_are_a_list_of_numbers():
    assert parse_stages("4,1, 2", 9) == (1, 2, 4) and parse_stages("2,blocks", 9) == (2, 9)
    assert parse_stages(None, 9) == (1, 2, 4, 8) and parse_stages("auto", 3) == (1, 2)


@pytest.mark.parametrize("text", ["", "two", "0", "1,,2", "1.5", "-1", "\u0664", "9" * 5000])
def test_what_is_no_number_of_stages_is_refused(text):
    with pytest.raises(ConfigError, match=r"cannot read the numbers of stages .*expected: whole numbers from 1"):
        parse_stages(text, 9)


def test_more_stages_than_blocks_are_refused():
    with pytest.raises(ConfigError, match=r"cannot split 9 blocks into 16 stages .*Lower --stages to at most 9"):
        parse_stages("2,16", 9)


@pytest.mark.parametrize("text", ["many", "9" * 5000])
def test_replicas_are_auto_or_numbers(text):
    assert parse_replicas("auto") == "auto" and parse_replicas("2") == (2,) and parse_replicas("1,2,1") == (1, 2, 1)
    with pytest.raises(ConfigError, match="cannot read the replicas .*expected: auto, a whole number from 1"):
        parse_replicas(text)


@pytest.mark.parametrize(
    ("bits", "text"),
    [(1.234e9, "1.23 Gbit/s"), (5e6, "5 Mbit/s"), (2000, "2 kbit/s"), (7.0, "7 bit/s"), (math.inf, "inf Gbit/s")],
)
def test_a_rate_in_words(bits, text):
    assert rate_text(bits) == text
