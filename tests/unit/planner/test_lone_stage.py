"""What is measured of a stage that runs alone, and what it is kept by."""

import json
import math
from pathlib import Path

import pytest

from pipeline.config import Config
from workers import worker
from workers.placement import Host
from workers.planner import lone_stage
from workers.planner.cases import Planned
from workers.planner.links import Question
from workers.planner.lone_stage import measure_stage
from workers.planner.profiles import Measured, stage_key
from workers.planner.ways import find_way


def first_job(chaos):
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 1, "width": 8, "norm": "none"},
        "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8},
        "rule": {"name": "pred"}, "train": {"batch_size": 8}, "run": {"threads": 1, "partition": [1, 1]},
        "chaos": chaos,
    })  # fmt: skip
    return Planned(config, Host(1, 0), Path("/nowhere"), Question((2,))).case(find_way("onward"), 2).jobs[0]


EMULATED = {"compute": "sleep", "compute_s": 0.0001}


@pytest.mark.parametrize("late", [{"stage_delay_s": 0.5}, {"delay_s": 0.5}, {"delay": "random"}])
@pytest.mark.parametrize("compute", [{}, EMULATED])
def test_lateness_is_no_part_of_what_a_profile_is_kept_by(compute, late):
    assert stage_key(first_job({**compute, **late})) == stage_key(first_job(compute))
    assert stage_key(first_job(EMULATED)) != stage_key(first_job({**EMULATED, "compute_s": 0.0002}))


def test_a_stage_is_measured_on_time(monkeypatch):
    found, real = [], worker.delays_of_stage
    monkeypatch.setattr(worker, "delays_of_stage", lambda *args: found.append(real(*args)))
    profile = measure_stage(first_job({**EMULATED, "stage_delay_s": 0.5}), ())
    assert found and set(found) == {None} and sum(profile.parts.values()) > 0


def plain_job(stage, way="1f1b"):
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 3, "width": 8, "norm": "none"},
        "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8},
        "rule": {"name": "pred"}, "train": {"batch_size": 8}, "run": {"threads": 1, "partition": [2, 2]},
    })  # fmt: skip
    return Planned(config, Host(1, 0), Path("/nowhere"), Question((2,))).case(find_way(way), 2).jobs[stage]


@pytest.mark.parametrize("rule", ["dfa", "dni", "backprop"])
def test_feedback_to_several_stages_is_told_once(rule):
    """The last of four stages tells the three below it, or the one below it, in the same moment of its step."""
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 3, "width": 8, "norm": "none"},
        "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8},
        "rule": {"name": rule}, "train": {"batch_size": 8, "microbatches": 2},
        "run": {"threads": 1, "partition": [1, 1, 1, 1]},
    })  # fmt: skip
    ways = ("onward", "gpipe") if rule == "backprop" else ("onward",)
    for way in ways:
        jobs = Planned(config, Host(1, 0), Path("/nowhere"), Question((4,))).case(find_way(way), 4).jobs
        profile = measure_stage(jobs[3], (), waits=False)
        assert all(seconds >= 0 for seconds in profile.parts.values()) and profile.told


def test_a_stage_that_hears_others_is_also_measured_behind_waits(monkeypatch):
    monkeypatch.setattr(lone_stage, "_LONG_STEP_S", math.inf)  # as a step may be on a busy machine
    found = measure_stage(plain_job(1), ())
    waits, longer = zip(*found.chills, strict=True)
    assert waits[0] == longer[0] == 0.0 and waits[1] > 5e-5 and waits[-1] >= 5e-3
    assert list(waits) == sorted(waits) and list(longer) == sorted(longer)
    assert found.told and measure_stage(plain_job(0), found.told).chills


def test_what_never_waits_has_no_such_measurement():
    assert measure_stage(plain_job(0, "onward"), ()).chills == ()
    assert measure_stage(plain_job(1, "onward"), (), waits=False).chills == ()
    assert measure_stage(first_job(EMULATED), ()).chills == ()  # it sleeps in place of computing


def test_a_profile_knows_how_it_was_taken():
    taken = measure_stage(plain_job(0, "onward"), ()).taken
    assert 0 < taken.share <= 1 and taken.spread >= 1
    assert measure_stage(first_job(EMULATED), ()).taken.share is None  # of a sleep it tells nothing


def test_a_profile_survives_json():
    found = Measured(measure_stage(plain_job(1), ()), 1.25)
    assert Measured.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("way", ["onward", "1f1b"])
def test_maps_whose_channels_lie_last_are_handed_out_as_a_link_would(way):
    config = Config.from_dict({
        "model": {"name": "vgg8b", "width": 0.0625}, "train": {"batch_size": 8},
        "dataset": {"name": "noise", "shape": [3, 16, 16], "num_train": 64, "num_test": 8},
        "rule": {"name": "pred"}, "run": {"threads": 1, "partition": [2, 6], "channels_last": True},
    })  # fmt: skip
    case = Planned(config, Host(1, 0), Path("/nowhere"), Question((2,))).case(find_way(way), 2)
    last = measure_stage(case.jobs[1], (), waits=False)
    assert sum(last.parts.values()) > 0
    first = measure_stage(case.jobs[0], last.told, waits=False)
    assert sum(first.parts.values()) > 0


@pytest.mark.parametrize(
    ("autocast", "wire", "size"), [("none", "same", 4), ("bfloat16", "same", 2), ("none", "int8", 1)]
)
def test_a_profile_has_the_bytes_that_travel(autocast, wire, size):
    """Of 3 samples of the longer one of two micro-batches: activations of 8 numbers, scales, and labels."""
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 1, "width": 8, "norm": "none"},
        "dataset": {"name": "noise", "shape": [8], "num_train": 60, "num_test": 8},
        "rule": {"name": "pred"}, "train": {"batch_size": 5, "microbatches": 2}, "transport": {"wire": wire},
        "run": {"threads": 1, "partition": [1, 1], "autocast": autocast},
    })  # fmt: skip
    jobs = Planned(config, Host(1, 0), Path("/nowhere"), Question((2,))).case(find_way("onward"), 2).jobs
    beside = (4 + 1) if wire == "int8" else 8  # a scale and a small label, or a label as it is
    assert measure_stage(jobs[0], (), waits=False).passed_bytes == 3 * (8 * size + beside)
    assert measure_stage(jobs[1], (), waits=False).passed_bytes == 0
