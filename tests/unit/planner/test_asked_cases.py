"""Which cases a plan has: those that fit on a host, with the batch that the data set has, and which of them is best."""

import math
from pathlib import Path

import pytest
from tests.support.told_plans import EVEN, FREE, MS, Told, by_schedule, config, rows

from pipeline.errors import ConfigError
from workers.placement import Host
from workers.planner import asked, cases
from workers.planner.asked import planned_runs
from workers.planner.cases import Planned
from workers.planner.command import _about_devices, _best, _devices
from workers.planner.links import Question
from workers.planner.model import Model, Setting
from workers.planner.replicas import cases_with_replicas
from workers.planner.ways import find_way

ROOT = Path("/nowhere")


@pytest.fixture
def room(monkeypatch):
    """Says what was asked for memory; refuses placements of so many processes and fewer on a host."""
    heard, too_few = [], [0]

    def check(resolved, partition, devices, here, reach, replicas):
        heard.append((resolved.config.schedule.mode, len(partition), len(devices), here))
        if len(devices) <= too_few[0]:
            raise ConfigError("this does not fit into memory")

    monkeypatch.setattr(cases, "check_memory", check)
    return heard, too_few


def planned(question, host=None, **sections):
    return Planned(config(**{**EVEN, **sections}), host or Host(64, 0), ROOT, question)


def test_what_does_not_fit_is_left_out_and_said_once(room, caplog):
    room[1][0] = 2
    found = planned_runs(planned(Question((1, 2, 4))), Question((1, 2, 4)), ["onward", "1f1b"])
    assert [(case.way.name, case.stages) for case in found] == [("onward", 4), ("1f1b", 4)]
    said = [record.getMessage() for record in caplog.records if record.name == asked.__name__]
    assert said == [
        "onward on 1, 2 is left out of the plan: this does not fit into memory",
        "1f1b on 2 is left out of the plan: this does not fit into memory",
    ]


def test_a_run_that_fits_on_no_number_of_stages_is_refused(room):
    room[1][0] = 4
    with pytest.raises(ConfigError, match="this does not fit into memory"):
        planned_runs(planned(Question((1, 2, 4))), Question((1, 2, 4)))


def test_replicas_that_do_not_fit_are_left_out(room, caplog):
    question = Question((2,), replicas=(2,))
    cases = planned_runs(planned(question), question)
    room[1][0] = 4
    setting = Setting(question, 64, FREE, 4)
    assert cases_with_replicas(cases, planned(question), Told(), setting) == []
    assert "replicas are left out of the plan: this does not fit into memory" in caplog.text


def test_a_host_has_its_share_of_the_processes_and_a_gpu_is_not_asked(room):
    question = Question((4,), hosts=2)
    planned_runs(planned(question), question, ["onward", "ddp"])
    assert room[0] == [("parallel", 4, 4, 2), ("backprop", 1, 1, 1)]
    room[0].clear()
    on_gpu = planned(question, Host(64, 1), run={"threads": 1, "device": "cuda", "partition": [1] * 4})
    planned_runs(on_gpu, question, ["onward"])
    assert room[0] == []


def test_a_step_has_no_more_samples_than_the_data_set():
    """640 samples, in one step of an epoch; each of two processes of data parallelism is dealt half of them."""
    question = Question((2,))
    found = by_schedule(rows(question, train={"batch_size": 4096}, **EVEN))
    assert [row["samples_per_s"] * row["step_s"] for row in found.values()] == [pytest.approx(640.0)] * len(found)
    cases = planned_runs(planned(question, train={"batch_size": 4096}), question)
    assert [case.resolved.batching.batch_size for case in cases if case.way.is_dealt] == [320]


def test_messages_between_replicas_are_late_where_all_are():
    """The last gradients, and then their sums: each is a message late."""
    delayed = planned(Question((1,)), chaos={"delay_s": 0.05}).case(find_way("onward"), 1, (2,))
    model = Model(delayed, Told(), Setting(Question((1,)), 64, FREE, 4))
    assert model.step_s() == pytest.approx(4 * 3 * MS / 2 + 2 * 0.05)


def row(processes, samples_per_s, schedule="onward"):
    return {"schedule": schedule, "replicas": [1] * processes, "samples_per_s": samples_per_s}


def test_the_best_row_has_a_gpu_for_each_process():
    found = [row(1, 10.0), row(2, 20.0), row(4, 40.0)]
    assert _best(config(), found, 2)["samples_per_s"] == 20.0
    assert _best(config(), found)["samples_per_s"] == 40.0
    assert _best(config(), found[2:], 2)["samples_per_s"] == 40.0  # no other was asked for
    assert _about_devices(found, 4) == [] and _about_devices(found, math.inf) == []
    assert _about_devices(found, 2) == [
        "  planned with a GPU for each process, of which there are 2: a run of more shares them, and is slower than "
        "its row"
    ]


@pytest.mark.parametrize(
    ("host", "device", "hosts", "expected"),
    [(Host(8, 2), "auto", 1, 2), (Host(8, 2), "cuda", 3, 6), (Host(8, 2), "cpu", 1, math.inf),
     (Host(8, 0), "auto", 1, math.inf)],
    ids=["own", "hosts", "cpu", "no-gpu"],
)  # fmt: skip
def test_how_many_devices_there_are(host, device, hosts, expected):
    assert _devices(config(run={"device": device}), Question((4,), hosts=hosts), host) == expected
