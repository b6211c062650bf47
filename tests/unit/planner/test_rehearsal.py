"""Which cases of a plan are tried for a moment, and what is believed of what was found; nothing is run."""

import dataclasses
import math
from pathlib import Path

import pytest
from tests.support.told_plans import EVEN, FREE, MS, Told, config

from pipeline.config import ChaosConfig, Config
from pipeline.errors import ConfigError
from pipeline.planning.taken import Taken
from workers.placement import Host
from workers.planner import rehearsal as module
from workers.planner.cases import Planned
from workers.planner.links import Link, Question
from workers.planner.model import Model, Setting
from workers.planner.rehearsal import Rehearsals
from workers.planner.rows import row_of
from workers.planner.text import plan_lines
from workers.planner.ways import find_way

ROOT = Path("/nowhere")


@pytest.fixture(autouse=True)
def tried(tmp_path, monkeypatch):
    """Cases that were tried; each takes 7 ms a batch."""
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path))
    calls = []

    def rehearse(resolved, placement, cores, data_root):
        calls.append((len(placement.partition), placement.replicas.num_processes, resolved.config.schedule.mode))
        return 7 * MS, Taken(5000.0, None if placement.replicas.num_processes > cores else 0.5, 1.2)

    monkeypatch.setattr(module, "rehearse", rehearse)
    return calls


def case_of(stages=4, way="onward", replicas=None, question=None, **sections):
    asked: Config = config(**(EVEN if stages == 4 else {}), **sections)
    if replicas is not None:
        asked = dataclasses.replace(asked, train=dataclasses.replace(asked.train, microbatches=2))
    planned = Planned(asked, Host(64, 0), ROOT, question or Question((stages,)))
    return planned.case(find_way(way), stages, replicas)


def on_devices(case, device):
    devices = (device,) * len(case.placement.devices)
    return dataclasses.replace(case, placement=dataclasses.replace(case.placement, devices=devices))


def step_s(case, cores=2, question=None):
    return Rehearsals(question or Question((4,)), cores, ROOT).step_s(case, told)


def told():
    """As the rehearsal says."""
    return 7 * MS


@pytest.mark.parametrize("way", ["onward", "1f1b", "gpipe"])
def test_every_way_of_training_in_stages_is_tried(tried, way):
    assert step_s(case_of(way=way)) == 7 * MS
    assert tried == [(4, 4, find_way(way).mode)]


def test_whatever_has_a_core_each_is_tried(tried):
    assert step_s(case_of(), cores=4) == 7 * MS and step_s(case_of(1)) == 7 * MS
    assert step_s(case_of(1, replicas=(2,))) == 7 * MS
    assert tried == [(4, 4, "parallel"), (1, 1, "parallel"), (1, 2, "parallel")]


@pytest.mark.parametrize(
    ("cores", "question"),
    [
        (0.5, Question((4,))), (2, Question((4,), hosts=2)),
        (2, Question((4,), link=Link(1e9))), (2, Question((4,), device_speed=2.0)),
    ],
    ids=["a-crowd", "hosts", "link", "other-devices"],
)  # fmt: skip
def test_others_are_simulated_alone(tried, cores, question):
    assert step_s(case_of(), cores, question) is None and tried == []


def test_data_parallelism_and_emulated_stages_and_whoever_wants_no_dry_run_are_not_tried(tried):
    assert step_s(case_of(way="ddp")) is None
    case = case_of()
    for changed in (
        dataclasses.replace(case.resolved.config, chaos=ChaosConfig(compute="sleep", compute_s=0.01)),
        dataclasses.replace(case.resolved.config, run=dataclasses.replace(case.resolved.config.run, predict=False)),
    ):
        other = dataclasses.replace(case, resolved=dataclasses.replace(case.resolved, config=changed))
        assert step_s(other) is None
    assert tried == []


def test_on_devices_nothing_is_tried(tried):
    """A plan has one device for all stages, and replicas would share it."""
    for case in (case_of(), case_of(1, replicas=(2,))):
        assert step_s(on_devices(case, "cuda:0"), cores=math.inf) is None
        assert step_s(on_devices(case, "cuda:0"), cores=2) is None
    assert tried == []


def test_what_was_found_is_kept_and_is_as_old_as_it_is(tried):
    for _ in range(2):
        found = Rehearsals(Question((4,)), 2, ROOT)
        assert found.step_s(case_of(), told) == 7 * MS
        assert found.taken == [Taken(5000.0, None, 1.2)]
    assert len(tried) == 1
    assert step_s(case_of(way="gpipe")) and len(tried) == 2
    assert Rehearsals(Question((4,)), 2, ROOT, fresh=True).step_s(case_of(), told) and len(tried) == 3
    assert step_s(case_of(), cores=3) and len(tried) == 4  # that this process may use


def test_replicas_on_a_busy_machine_say_so_and_are_tried_again(tried):
    """Each has a core of its own, so that half of one means other programs."""
    for times in (1, 2):
        found = Rehearsals(Question((1,)), 2, ROOT)
        assert found.step_s(case_of(1, replicas=(2,)), told) == 7 * MS and len(tried) == times
        assert found.taken == [Taken(5000.0, 0.5, 1.2)] and found.taken[0].is_busy


def test_one_that_takes_too_long_is_the_last_that_is_tried(monkeypatch, caplog):
    calls = []

    def takes_long(*_):
        calls.append(1)
        raise TimeoutError("a stage of the dry run did not answer in time")

    monkeypatch.setattr(module, "rehearse", takes_long)
    found = Rehearsals(Question((4,)), 2, ROOT)
    assert found.step_s(case_of(), told) is None
    assert found.step_s(case_of(way="gpipe"), told) is None and len(calls) == 1
    assert "nothing more is tried for this plan: a stage of the dry run did not answer in time" in caplog.text


def test_one_that_does_not_fit_into_memory_is_simulated(tried, monkeypatch, caplog):
    def refuses(*_):
        raise ConfigError("too little memory")

    monkeypatch.setattr(module, "check_memory", refuses)
    with caplog.at_level("DEBUG", logger=module.logger.name):
        assert step_s(case_of()) is None and tried == []
    assert "too little memory" in caplog.text


def test_a_cache_of_something_else_is_not_believed(tried, monkeypatch):
    for wrong in (None, {}, {"step_s": "x", "taken": {}}, {"step_s": -1.0, "taken": Taken(1.0).to_dict()}):
        monkeypatch.setattr(module.cost_cache, "recall", lambda *_, found=wrong: found)
        assert step_s(case_of()) == 7 * MS
    assert len(tried) == 4


def test_one_that_fails_is_simulated(monkeypatch, caplog):
    def fails(*_):
        raise ValueError("a user's block")

    monkeypatch.setattr(module, "rehearse", fails)
    with caplog.at_level("DEBUG", logger=module.logger.name):
        found = Rehearsals(Question((4,)), 2, ROOT)
        assert found.step_s(case_of(), told) is None and found.taken == []
    assert "the rehearsal failed: a user's block" in caplog.text


def test_a_tried_row_has_that_pace_and_says_what_the_simulation_says():
    model = Model(case_of(), Told(), Setting(Question((4,)), 2, FREE, 4))
    plain, row = row_of(model), row_of(model, 12 * MS)
    assert plain["step_s"] == plain["simulated_step_s"] == row["simulated_step_s"] and not plain["rehearsed"]
    assert row["rehearsed"] and row["step_s"] == 12 * MS and row["samples_per_s"] == pytest.approx(64 / (12 * MS))
    assert row["bottleneck"] == plain["bottleneck"] == "cores" and row["bubble"] > plain["bubble"]
    assert row["run_s"] > plain["run_s"]
    said = "\n".join(plan_lines([plain, row], row, "about"))
    assert said.count("(tried)") == 2 and "these processes ran here for a moment" in said
    assert "(tried)" not in "\n".join(plan_lines([plain], plain, "about"))


@pytest.mark.parametrize(
    ("cores", "starts", "simulated", "expected"),
    [
        (4, [9.0], 9.5, 9.0),  # near enough
        (4, [12.0, 9.0], 9.5, 9.5), (4, [12.0, 9.8], 9.5, 9.8), (4, [12.0, 11.8], 9.5, 11.8),
        (4, [7.0, 8.0], 9.5, 8.0), (3, [12.0], 9.5, 12.0),  # four stages share three cores: it knows too little
    ],
)  # fmt: skip
def test_what_is_far_from_a_simulation_is_started_once_more_and_the_middle_one_counts(
    monkeypatch, cores, starts, simulated, expected
):
    left = [start * MS for start in starts]
    monkeypatch.setattr(module, "rehearse", lambda *_: (left.pop(0), Taken(5000.0, 1.0, 1.2)))
    found = Rehearsals(Question((4,)), cores, ROOT)
    assert found.step_s(case_of(), lambda: simulated * MS) == pytest.approx(expected * MS)
    assert left == [] and found.taken == [Taken(5000.0, 1.0, 1.2)]
