import pytest

from benchmarks import links
from benchmarks.link_tables import ARMS, lost, markdown
from benchmarks.presets import PRESETS


def entry(*rates, status="ok", note=None):
    figures = [rate for rate in rates if rate is not None]
    found = {"samples_per_s": sorted(figures)[len(figures) // 2] if figures else None, "all": list(rates),
             "status": status}  # fmt: skip
    return found if note is None else {**found, "note": note}


def test_what_is_lost_is_taken_round_by_round():
    assert lost(entry(90.0, 50.0, None), entry(100.0, 100.0, 100.0)) == {
        "median": pytest.approx(0.3), "min": pytest.approx(0.1), "max": 0.5, "all": [pytest.approx(0.1), 0.5],
    }  # fmt: skip
    assert lost(entry(None), entry(100.0)) is None


def test_the_table_has_a_row_for_each_link():
    base = {name: entry(100.0) for name in ARMS}
    slow = {**{name: entry(75.0) for name in ARMS}, "ddp": entry(None, status="hang", note="no result after 120 s")}
    text = markdown({"links": {"unlimited": base, "10 Mbit/s": slow}}).splitlines()
    assert text[0] == "| link | onward | onward bfloat16 | onward int8 | gpipe | 1f1b | ddp |"
    assert text[2] == "| unlimited | 100 | 100 | 100 | 100 | 100 | 100 |"
    assert text[3].startswith("| 10 Mbit/s | 75 (25.0 % lost) |") and text[3].endswith("| no result after 120 s |")


def test_of_several_rounds_the_least_and_the_most_stand_beside():
    found = {"links": {"unlimited": {"onward": entry(100.0, 100.0)}, "1 Gbit/s": {"onward": entry(99.0, 102.0)}}}
    assert markdown(found).splitlines()[3] == "| 1 Gbit/s | 102 (-0.5 % lost, -2.0 to 1.0) |"


def test_a_file_of_fewer_arms_has_fewer_columns_and_messages_stand_below():
    base = {name: entry(100.0) for name in ("onward", "ddp")}
    found = {"links": {"unlimited": base}, "message_bytes": {"onward": 2**20, "onward int8": 2**18}}
    assert markdown(found).splitlines() == [
        "| link | onward | ddp |", "| --- | ---: | ---: |", "| unlimited | 100 | 100 |", "",
        "On the link in each step, labels included: onward 1.0 MiB, onward int8 256.0 KiB.",
    ]  # fmt: skip


def test_the_message_of_the_small_language_model():
    """16 windows of 128 bytes, 128 numbers at each; int8 has a scale for each position; labels of two bytes or one."""
    found = links.message_bytes(PRESETS["lm-s"], (4, 4))
    positions = 16 * 128
    labels = found["onward"] - positions * 128 * 4
    assert labels in (positions, 2 * positions)
    assert found == {
        "onward": positions * 128 * 4 + labels, "onward bfloat16": positions * 128 * 2 + labels,
        "onward int8": positions * (128 + 4) + labels,
    }  # fmt: skip


def test_without_root_it_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(links, "why_not", lambda: "hosts are network namespaces, which need root")
    with pytest.raises(SystemExit, match="2"):
        links.main([])
    text = "no hosts can be made here (hosts are network namespaces, which need root). Run it as root, with iproute2"
    assert text in capsys.readouterr().err


def test_an_unknown_link_is_refused_with_those_there_are(monkeypatch, capsys):
    monkeypatch.setattr(links, "why_not", lambda: None)
    with pytest.raises(SystemExit, match="2"):
        links.main(["--links", "1 Gbit/s,2 baud"])
    assert "unknown link (given: '2 baud', expected: unlimited, 10 Gbit/s, 1 Gbit/s" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        links.main(["--arms", "onward,pipes"])
    assert "unknown arm (given: 'pipes', expected: onward, onward bfloat16, onward int8" in capsys.readouterr().err


def test_costs_that_cannot_be_measured(monkeypatch):
    from benchmarks.arms.launch import Outcome
    from benchmarks.arms.turns import ThroughputSettings

    monkeypatch.setattr(links, "run", lambda job, limit_s: Outcome("hang", note="no result after 4 s"))
    with pytest.raises(RuntimeError, match=r"cannot measure what the blocks cost \(hang: no result after 4 s\)"):
        links.measure(PRESETS["mlp-8x128"], ThroughputSettings(), ["unlimited"])


@pytest.mark.parametrize(("rate", "seconds"), [(None, 0.0), (10e9, 0.03011), (10e6, 30.11)])
def test_over_a_slow_link_a_run_has_the_time_of_its_exchanges(rate, seconds):
    """Data parallelism takes 27 s a step at 10 Mbit/s: the default limit would end it before its first figure."""
    assert links.exchanges_s(rate, 4_000_000) == pytest.approx(seconds, rel=1e-3)
    assert all(links.exchanges_s(rate, 1) >= 0 for rate in links.RATES.values())
