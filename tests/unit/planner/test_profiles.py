"""What is believed of the profiles that the cost cache holds; nothing is measured."""

import dataclasses
import math
import os
import time
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.told_plans import tell_costs

from pipeline.config import Config, NamedConfig
from pipeline.errors import ConfigError
from pipeline.planning.stage_model import Part
from pipeline.planning.taken import Taken
from workers import cost_cache
from workers.placement import Host
from workers.planner import command
from workers.planner import profiles as module
from workers.planner.cases import Planned
from workers.planner.command import make_plan
from workers.planner.links import Question
from workers.planner.lone_stage import StageProfile
from workers.planner.profiles import KIND, Measured, Profiles, stage_key
from workers.planner.ways import find_way
from workers.planner.wire_costs import WireCosts

ROOT = Path("/nowhere")
ONWARD = find_way("onward")
CONFIG = Config.from_dict({
    "model": {"name": "mlp", "depth": 1, "width": 8, "norm": "none"},
    "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8},
    "rule": {"name": "pred"}, "train": {"batch_size": 8}, "run": {"threads": 1, "partition": [1, 1], "predict": False},
})  # fmt: skip


def profile(seconds, taken):
    parts = {part: seconds for part in Part}
    return StageProfile(parts, 10, 20, 30, (), taken)


def merged_threads(threads, microbatches=0):
    run = dataclasses.replace(CONFIG.run, threads=threads)
    return dataclasses.replace(CONFIG, run=run, train=dataclasses.replace(CONFIG.train, microbatches=microbatches))


class Machine:
    """Measures stages: alone, then with all cores busy; each time with the next of the shares it is told."""

    def __init__(self):
        self.shares = []
        self.measured = []

    def submit(self, call, missing, waits):
        self.measured.append(len(missing))
        share = self.shares.pop(0) if self.shares else 1.0
        future = Future()
        future.set_result({key: profile(1e-3, Taken(2000.0, share)) for key, _, _ in missing})
        return future


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path))
    found = Machine()

    @contextmanager
    def pool(self, resolved):
        yield found

    monkeypatch.setattr(Profiles, "_pool", pool)
    monkeypatch.setattr(module, "measure_wires", lambda *_: WireCosts(0, 0, 0, 0, taken=Taken(3000.0, 0.95)))
    return found


def jobs():
    return Planned(CONFIG, Host(2, 0), ROOT, Question((2,))).case(find_way("onward"), 2).jobs


def keep(taken):
    for job in jobs():
        cost_cache.keep(KIND, stage_key(job), Measured(profile(2e-3, taken), 1.5).to_dict())


def learned(cores=2):
    found = Profiles(2, cores)
    found.learn([jobs()])
    return found


def test_profiles_that_were_taken_undisturbed_are_believed(machine):
    keep(Taken(1000.0, 1.0))
    found = learned()
    assert machine.measured == [] and found.of(jobs()[0]).slowdown == 1.5 and found.taken == Taken(1000.0, 1.0)


@pytest.mark.parametrize("taken", [Taken(1000.0, 0.5), None])
def test_profiles_of_a_busy_machine_are_taken_again(machine, taken):
    """As are none: every one that is kept knows how it was taken, but for one that was made by hand."""
    keep(taken)
    found = learned()
    assert (machine.measured != []) is (taken is not None)
    assert found.of(jobs()[0]).profile.parts[Part.STEP] == (1e-3 if taken else 2e-3)


def test_a_profile_is_as_disturbed_as_the_worse_of_both_measurements(machine):
    machine.shares = [1.0, 1.0, 1.0, 0.6, 0.8]  # two warm up, then alone, then both at once
    assert learned().taken.share == 0.6
    again = learned()
    assert again.taken.share == 1.0 and len(machine.measured) == 10
    assert learned().taken.share == 1.0 and len(machine.measured) == 10


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 2)])
def test_a_stage_that_fills_the_cores_is_measured_beside_no_other(machine, cores, threads):
    machine.shares = [1.0, 1.0, 0.9]  # two warm up, then alone
    found = Profiles(2, cores)
    first, second = Planned(merged_threads(threads), Host(2, 0), ROOT, Question((2,))).case(ONWARD, 2).jobs
    found.learn([[first, second]])
    assert found.taken.share == 0.9 and len(machine.measured) == 3 and found.of(first).slowdown == 1.0


def test_stages_are_measured_beside_as_many_as_have_cores(machine):
    """Of processes of one, two and four threads on four cores."""
    found = Profiles(8, 4)
    runs = [Planned(merged_threads(n), Host(4, 0), ROOT, Question((2,))).case(find_way("onward"), 2).jobs
            for n in (1, 2, 4)]  # fmt: skip
    found.learn(runs)
    assert [found.of(jobs[0]).together for jobs in runs] == [4, 2, 1]
    assert machine.measured == [1] * 4 + [6] + [2] * 2 + [2] * 4  # warm, alone, beside one, beside three


def test_a_stage_with_a_device_of_its_own_is_slowed_by_nobody():
    (job, _) = jobs()
    on_device = dataclasses.replace(job, endpoint=dataclasses.replace(job.endpoint, device="cuda:0"))
    found = Profiles(8, 16)
    assert found._together(job) == 8 and found._together(on_device) == 1


def test_others_of_a_kind_slow_a_stage_one_by_one():
    found = Measured(profile(1e-3, None), 1.5, 3)
    assert [found.slowdown_of(n) for n in (1, 2, 3, 5)] == [1.0, 1.25, 1.5, 2.0]
    assert found.slowdown_of(math.inf) == 1.0 == Measured(profile(1e-3, None), 1.0, 1).slowdown_of(8)


def test_what_was_measured_alone_is_measured_again_where_others_are_beside_it(machine):
    """Under a share of the cores, and then with all of them."""
    assert learned(cores=1).of(jobs()[0]).together == 1 and len(machine.measured) == 3
    assert learned(cores=1).of(jobs()[0]).together == 1 and len(machine.measured) == 3
    assert learned(cores=2).of(jobs()[0]).together == 2 and len(machine.measured) == 3 + 5
    assert learned(cores=1).of(jobs()[0]).together == 2 and len(machine.measured) == 8


def test_a_profile_is_kept_by_the_wire_where_the_stage_has_it():
    """The first stage rounds what it sends at block 1, the last one what it takes; nothing is rounded elsewhere."""
    deeper = dataclasses.replace(
        CONFIG, model=NamedConfig(name="mlp", options={"depth": 2, "width": 8, "norm": "none"}),
        run=dataclasses.replace(CONFIG.run, partition=[1, 1, 1]),
    )  # fmt: skip

    def keys(**transport):
        config = dataclasses.replace(deeper, transport=dataclasses.replace(deeper.transport, **transport))
        return [stage_key(job) for job in Planned(config, Host(2, 0), ROOT, Question((3,))).case(ONWARD, 3).jobs]

    plain, every, one = keys(), keys(wire="int8"), keys(wire="int8", wire_at=[1])
    assert [a != b for a, b in zip(plain, every, strict=True)] == [True] * 3
    assert [a != b for a, b in zip(plain, one, strict=True)] == [True, True, False]
    assert every[1] != one[1] and every[0] == one[0]


def test_a_profile_is_kept_by_what_is_done_about_numbers_that_are_not_finite():
    careless = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, nonfinite="ignore"))
    other = Planned(careless, Host(2, 0), ROOT, Question((2,))).case(ONWARD, 2).jobs[0]
    assert stage_key(other) != stage_key(jobs()[0])


@pytest.mark.parametrize(("way", "threads"), [("onward", 1), ("backprop", 4)])
def test_replicas_share_the_cores_of_their_host_with_all_processes(way, threads):
    """Four processes on four cores: two stages of two replicas each; all cores for one process."""
    config = merged_threads(0, microbatches=2)
    planned = Planned(config, Host(4, 0), ROOT, Question((2,)))
    case = planned.case(find_way(way), 2, (2, 2)) if way == "onward" else planned.case(find_way(way), 1)
    assert {job.threads for job in case.jobs} == {threads}


def test_a_plan_is_as_old_as_the_costs_that_its_stages_are_cut_by(machine, tmp_path, monkeypatch):
    asked = tell_costs(monkeypatch, Taken(500.0, 0.7))
    config = dataclasses.replace(
        CONFIG, model=NamedConfig(name="mlp", options={"depth": 2, "width": 8, "norm": "none"}),
        run=dataclasses.replace(CONFIG.run, partition="measured"),
    )  # fmt: skip
    plan = make_plan(config, Question((2,)), out=tmp_path / "plan", data_root=ROOT, say=lambda line: None)
    assert plan["measured"]["at"] == 500.0 and plan["measured"]["cpu_share"] == 0.7
    command.plan_rows(config, Question((2,)), Host(2, 0), ROOT, fresh=True)
    assert asked[0]["fresh"] is False and asked[-1]["fresh"] is True


@pytest.mark.parametrize(("share", "times"), [(1.0, 1), (0.5, 2)])
def test_messages_that_were_measured_on_a_busy_machine_are_measured_again(machine, monkeypatch, share, times):
    calls = []

    def measure(*_):
        calls.append(1)
        return WireCosts(0, 0, 0, 0, taken=Taken(3000.0, share))

    monkeypatch.setattr(module, "measure_wires", measure)
    for _ in range(2):
        found = Profiles(2, 2)
        found.wires(jobs()[0].resolved, "shared_memory")
    assert len(calls) == times and found.taken == Taken(3000.0, share)


def test_a_plan_tells_how_old_and_how_disturbed_it_is(machine, tmp_path, monkeypatch):
    said = []
    machine.shares = [1.0, 1.0, 0.6]
    plan = make_plan(CONFIG, Question((2,)), out=tmp_path / "plan", data_root=ROOT, say=said.append)
    assert plan["measured"]["cpu_share"] == 0.6 and plan["measured"]["at"] == 2000.0 and plan["measured"]["is_busy"]
    assert ", measured " in said[0] and said[0].endswith(" ago on a busy machine (60 % of a core; --fresh "
                                                         "measures again)")  # fmt: skip


def test_a_stage_that_is_too_slow_to_be_measured_is_told_and_not_waited_for():
    resolved = Planned(CONFIG, Host(2, 0), ROOT, Question((2,))).case(ONWARD, 2).resolved
    told = r"the stages are too slow to be measured \(given: more than 300 s for one, expected: less\)"
    with pytest.raises(ConfigError, match=told), Profiles(2, 2)._pool(resolved) as pool:
        pool.submit(time.sleep, 3000.0).result(0.2)


def test_a_stage_that_the_system_kills_while_it_is_measured_is_told():
    resolved = Planned(CONFIG, Host(2, 0), ROOT, Question((2,))).case(ONWARD, 2).resolved
    told = r"the stages are too large to be measured \(BrokenProcessPool: A process .*\)\. Plan with a smaller"
    with pytest.raises(ConfigError, match=told), Profiles(2, 2)._pool(resolved) as pool:
        pool.submit(os._exit, 1).result(60.0)
