"""The benchmark of mapped samples: what is compared is the same, and what must fail does."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import mapped as benchmark
from pipeline.datasets import mapped
from pipeline.resolve import resolve


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(benchmark, "ROW", 8)
    monkeypatch.setattr(benchmark, "BATCH", 4)
    monkeypatch.setattr(benchmark, "drop_pages", lambda folder: None)


def rates(monkeypatch, table):
    """Pretends runs: by data set and limit, samples per second and weights, or None of one that fails."""
    monkeypatch.setattr(benchmark, "rate", lambda name, folder, width, limit: table[name, bool(limit)].pop(0))


def test_both_arms_read_the_same_samples(small, tmp_path):
    assert benchmark.write_noise(tmp_path, 8 * 4 * 13) == 12
    first, second = benchmark.build(tmp_path, path="."), mapped.build(tmp_path, path=".")
    for a, b in zip(first.load(), second.load(), strict=True):
        assert np.array_equal(a.x.numpy(), b.x.numpy()) and a.y.tolist() == b.y.tolist()
    specs = [resolve(benchmark.config_of(n, tmp_path, 8), tmp_path).data for n in ("benchmarks.mapped", "mapped")]
    assert [spec.is_mapped for spec in specs] == [False, True]


def test_ratios_are_taken_round_by_round(small, tmp_path, monkeypatch):
    rates(monkeypatch, {
        ("benchmarks.mapped", True): [None], ("benchmarks.mapped", False): [(10.0, "w"), (20.0, "w")],
        ("mapped", True): [(9.0, "w"), (19.0, "w")],
    })  # fmt: skip
    table = benchmark.compare(tmp_path, 1024, 8, 2)
    assert table["mapped/memory"]["all"] == [0.9, 0.95]
    assert table["data_bytes"] == 3 * 1024 == 3 * table["allowed_bytes"]


@pytest.mark.parametrize(("limited", "mapped_runs", "message"), [
    ([(5.0, "w")], [], "the data fit into memory"), ([None], [None], "a run failed, or the weights differ"),
    ([None], [(9.0, "v")], "a run failed, or the weights differ"),
])  # fmt: skip
def test_what_says_nothing_is_refused(small, tmp_path, monkeypatch, limited, mapped_runs, message):
    rates(monkeypatch, {
        ("benchmarks.mapped", True): limited, ("benchmarks.mapped", False): [(10.0, "w")],
        ("mapped", True): mapped_runs,
    })  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        benchmark.compare(tmp_path, 1024, 8, 1)


def test_a_run_in_a_process_of_its_own(tmp_path, monkeypatch):
    seen = []

    def run(command, **kwargs):
        seen.append(command[2:])
        return SimpleNamespace(returncode=len(seen) - 1, stdout="said before\n" + json.dumps([3.0, "w"]) + "\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert benchmark.rate("mapped", tmp_path, 8, 7) == (3.0, "w")
    assert benchmark.rate("mapped", tmp_path, 8, 7) is None
    assert seen[0] == ["benchmarks.mapped", "--arm", "mapped", str(tmp_path), "8", "7"]
