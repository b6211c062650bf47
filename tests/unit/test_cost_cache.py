import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
import torch

from pipeline.config import Config
from pipeline.planning.taken import Taken
from pipeline.resolve import resolve
from workers import cached_costs, cost_cache
from workers.cost_cache import conditions, forget, ignore_older, is_cacheable, keep, recall

KEY = {"model": {"name": "mlp"}, "shape": (1, 2), "threads": 1}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "costs"


def run(**sections):
    table = {"model": {"name": "mlp", "depth": 2, "width": 8}, **sections}
    return resolve(Config.from_dict(table), Path("nowhere"))


def test_what_was_kept_is_recalled(folder):
    assert recall("pace", KEY) is None
    keep("pace", KEY, [1.5, 2.5])
    assert recall("pace", KEY) == [1.5, 2.5]
    assert recall("pace", {**KEY, "threads": 2}) is None and recall("blocks", KEY) is None
    assert [path.suffix for path in folder.iterdir()] == [".json"]  # nothing half written is left
    forget("pace", KEY)
    forget("pace", KEY)
    assert recall("pace", KEY) is None


def test_what_is_older_can_be_left_aside_and_stays_for_others(folder, monkeypatch):
    monkeypatch.setattr(cost_cache, "_oldest", 0.0)
    for threads in (1, 2):
        keep("pace", {**KEY, "threads": threads}, 1.5)
    before = time.time() - 60.0
    for path in folder.iterdir():
        os.utime(path, (before, before))
    ignore_older()
    keep("pace", {**KEY, "threads": 2}, 2.5)
    assert [recall("pace", {**KEY, "threads": threads}) for threads in (1, 2)] == [None, 2.5]
    monkeypatch.setattr(cost_cache, "_oldest", 0.0)
    assert recall("pace", {**KEY, "threads": 1}) == 1.5


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": {}, "value": 1}', "\xff"])
def test_a_broken_file_is_no_file(folder, text):
    keep("pace", KEY, 1.0)
    next(folder.iterdir()).write_bytes(text.encode("latin1"))
    assert recall("pace", KEY) is None
    keep("pace", KEY, 2.0)
    assert recall("pace", KEY) == 2.0


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_json_cannot_hold_is_not_kept(folder, value):
    keep("pace", KEY, value)
    assert recall("pace", KEY) is None and list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path / "file"))
    keep("pace", KEY, 1.0)
    forget("pace", KEY)
    assert recall("pace", KEY) is None


def test_no_home_stops_nothing(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ONWARD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    keep("pace", KEY, 1.0)
    forget("pace", KEY)
    assert recall("pace", KEY) is None


def test_where_it_is(monkeypatch, tmp_path):
    assert cost_cache.folder() == tmp_path / "cache" / "costs"
    monkeypatch.delenv("ONWARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cost_cache.folder() == tmp_path / "xdg" / "onward" / "costs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cost_cache.folder() == Path.home() / ".cache" / "onward" / "costs"


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"name": "mlp", "depth": 2, "width": 9}}, {"rule": {"name": "pred"}}, {"rule": {"beta": 0.5}},
        {"optimizer": {"name": "sgd", "lr": 0.1}}, {"train": {"batch_size": 32}},
        {"train": {"freeze": "0"}}, {"rule": {"name": "predsim", "blocks": {"0": {"name": "sim"}}}},
        {"run": {"matmul_precision": "high"}}, {"run": {"autocast": "bfloat16"}},
        {"train": {"microbatches": 2}, "rule": {"name": "pred"}, "model": {"name": "mlp", "depth": 2, "norm": "none"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_changes_the_cost_of_a_block_changes_the_key(sections):
    assert conditions(run(**sections), 1, CPU) != conditions(run(), 1, CPU)


def test_what_does_not_change_it_does_not():
    same = {"train": {"epochs": 3}, "run": {"stages": 1, "timeout_s": 9.0}, "seed": 5}
    assert conditions(run(**same), 1, CPU) == conditions(run(), 1, CPU)
    assert conditions(run(), 2, CPU) != conditions(run(), 1, CPU)
    assert json.loads(json.dumps(conditions(run(), 1, CPU)))["torch"] == torch.__version__


def test_another_code_has_another_key(monkeypatch):
    before = conditions(run(), 1, CPU)
    monkeypatch.setattr(cost_cache, "code_digest", lambda: "other")
    assert conditions(run(), 1, CPU) != before


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("model", "tests.support.conv_net.small"), ("model", "object"), ("rule", "mine.rules.delta"),
        ("dataset", "mine.data"), ("transport", "mine.wires"),
    ],
)  # fmt: skip
def test_nothing_is_kept_of_the_users_own_code(section, name):
    ours = run()
    assert is_cacheable(ours)
    chosen = dataclasses.replace(getattr(ours.config, section), name=name)
    theirs = dataclasses.replace(ours, config=dataclasses.replace(ours.config, **{section: chosen}))
    assert not is_cacheable(theirs)


def test_nothing_is_kept_where_a_single_block_learns_by_the_users_own_rule():
    assert not is_cacheable(run(rule={"name": "pred", "blocks": {"0": {"name": "tests.support.deaf_rule"}}}))


@pytest.fixture
def measured(monkeypatch):
    """How often blocks were measured; one after another, each with its share of a processor, where it is told."""
    calls = Calls()

    def measure_blocks(resolved, threads, device):
        calls.append(threads)
        return [float(len(calls))] * resolved.num_blocks, Taken(1000.0, calls.shares.pop(0) if calls.shares else 1.0)

    monkeypatch.setattr(cached_costs, "measure_blocks", measure_blocks)
    return calls


class Calls(list):
    shares: list = []


def test_blocks_are_measured_once(measured):
    first = cached_costs.block_costs(run(), 1, CPU)
    assert cached_costs.block_costs(run(), 1, CPU) == first == [1.0] * 3
    assert cached_costs.block_costs(run(), 2, CPU) == [2.0] * 3
    cached_costs.forget_costs(run(), 1, CPU)
    assert cached_costs.block_costs(run(), 1, CPU) == [3.0] * 3
    assert measured == [1, 2, 1]


TAKEN = Taken(1000.0, 1.0).to_dict()


def test_costs_that_were_kept_are_believed(measured):
    keep("blocks", conditions(run(), 1, CPU), {"seconds": [7.0] * 3, "taken": TAKEN})
    assert cached_costs.block_costs(run(), 1, CPU) == [7.0] * 3 and measured == []


@pytest.mark.parametrize(
    "found", [[1.0], "abc", {"a": 1}, {"seconds": [7.0] * 3}, {"seconds": "abc", "taken": TAKEN},
              *({"seconds": seconds, "taken": TAKEN} for seconds in ([7.0], [7.0, 7.0, -1.0], [7.0, 7.0, None])),
              {"seconds": [7.0] * 3, "taken": Taken(1000.0, 0.5).to_dict()}],
)  # fmt: skip
def test_costs_that_are_none_or_were_disturbed_are_measured_again(measured, found):
    keep("blocks", conditions(run(), 1, CPU), found)
    assert cached_costs.block_costs(run(), 1, CPU) == [1.0] * 3


def test_blocks_are_measured_again_until_the_machine_is_quiet(measured):
    measured.shares = [0.5, 0.7, 1.0]
    assert [cached_costs.block_costs(run(), 1, CPU)[0] for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]


def test_a_busy_machine_is_not_measured_again_at_once(measured):
    kept = {"seconds": [7.0] * 3, "taken": Taken(time.time() - 60.0, 0.5).to_dict()}
    keep("blocks", conditions(run(), 1, CPU), kept)
    assert cached_costs.block_costs(run(), 1, CPU) == [7.0] * 3 and measured == []
    assert cached_costs.told_costs(run(), 1, CPU, fresh=True)[0] == [1.0] * 3 and measured == [1]


def test_the_users_own_code_is_measured_every_time(measured, folder):
    table = {"model": {"name": "tests.support.conv_net.small"}, "rule": {"name": "pred"}}
    theirs = resolve(Config.from_dict(table), Path("nowhere"))
    for _ in range(2):
        cached_costs.block_costs(theirs, 1, CPU)
    assert measured == [1, 1] and not folder.exists()
