import pytest

from pipeline.records.number_text import duration, format_bytes, grouped, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.4, "0.400"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"),
     (999.6, "1 000"), (12345.6, "12 346"), (1234567.8, "1 234 568"), (-2.5, "-2.50"), (float("nan"), "nan")],
)  # fmt: skip
def test_three_digits_or_more(value, text):
    assert grouped(value) == text


def test_shares():
    assert (percent(None), percent(0.97222), percent(1.0)) == ("-", "97.22", "100.00")
    assert (percent(None, digits=0), percent(0.834, digits=0)) == ("-", "83")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.254, "0.25 s"), (9.99, "9.99 s"), (12.4, "12 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"),
        (3599.9, "1 h 00 min"), (7620, "2 h 07 min"), (360000, "100 h 00 min"),
    ],
)  # fmt: skip
def test_duration(seconds, expected):
    assert duration(seconds) == expected


def test_duration_without_digits():
    assert duration(3.7, digits=0) == "4 s"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1024**2, "1.0 MiB"),
        (3.5 * 1024**2, "3.5 MiB"), (1024**3, "1.00 GiB"), (1536 * 1024**3, "1536.00 GiB"), (-2048, "-2.0 KiB"),
        (None, "-"),
    ],
)  # fmt: skip
def test_bytes_for_people(count, text):
    assert format_bytes(count) == text
