"""Rows of plans whose stages take times that are told, so that what comes can be worked out by hand."""

import dataclasses
from pathlib import Path

import pytest
from tests.support.told_plans import EVEN, FREE, MS, Told, by_schedule, config, model_of, rows, tell_costs

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import resolve
from pipeline.schedules.replicas import Replicas
from workers.edges import edges_of
from pipeline.planning.taken import Taken
from workers.placement import Host
from workers.planner.asked import planned_runs
from workers.planner.cases import Planned
from workers.planner.command import _best, placed, planned_as
from workers.planner.links import Link, Question
from workers.planner.model import Model, Setting
from workers.planner.replicas import cases_with_replicas
from workers.planner.rows import head_share, replicated, row_of
from workers.planner.text import plan_lines
from workers.planner.ways import find_way
from workers.planner.wire_costs import WireCosts


def test_every_schedule_has_its_rows():
    found = by_schedule(rows(Question((1, 4)), **EVEN))
    assert list(found) == [("onward", 1), ("onward", 4), ("1f1b", 4), ("gpipe", 4), ("backprop", 1), ("ddp", 4)]
    assert found["onward", 1]["step_s"] == pytest.approx(12 * MS)
    assert found["onward", 4]["step_s"] == pytest.approx(3 * MS)
    assert found["onward", 4]["samples_per_s"] == pytest.approx(64 / (3 * MS))
    assert found["onward", 4]["bubble"] == pytest.approx(0.0, abs=1e-6)
    assert found["backprop", 1]["step_s"] == pytest.approx(12 * MS)
    # Four micro-batches through four stages: (4 + 4 - 1) / 4 times the work of a stage.
    for schedule in ("gpipe", "1f1b"):
        assert found[schedule, 4]["step_s"] == pytest.approx(3 * MS * 7 / 4, rel=0.15)
        assert found[schedule, 4]["bottleneck"] == "waits" and "train.microbatches" in found[schedule, 4]["advice"]


def test_the_slowest_stage_is_named_and_gets_a_replica():
    model = model_of(Question((4,)), profiles=Told({1: 2.0}), **EVEN)
    row = row_of(model)
    assert row["bottleneck"] == "stage 1" and "a replica of it" in row["advice"]
    assert row["step_s"] == pytest.approx(6 * MS) and replicated(model) == (1, 2, 1, 1)
    assert replicated(model_of(Question((4,)), **EVEN)) is None


def test_stages_that_share_cores_are_named():
    row = row_of(model_of(Question((4,)), cores=2, **EVEN))
    assert row["step_s"] == pytest.approx(6 * MS, rel=0.03) and row["bottleneck"] == "cores"


def test_data_parallelism_pays_for_its_gradients():
    near = row_of(model_of(Question((4,)), "ddp", 4))
    far = row_of(model_of(Question((4,), link=Link(1e6)), "ddp", 4))
    assert near["bottleneck"] == "compute" and near["step_s"] == pytest.approx(12 * MS)  # Told is of any batch
    parameters = 4 * (3 * (64 * 64 + 64) + 64 * 10 + 10)
    assert near["run_s"] == pytest.approx(20 * 10 * 12 * MS)  # epochs, steps of all processes
    assert far["bottleneck"] == "exchange of gradients"
    assert far["step_s"] > 0.5 * 2 * 3 / 4 * parameters * 8 / 1e6


def test_a_faster_device_computes_faster():
    assert row_of(model_of(Question((4,), device_speed=3.0), **EVEN))["step_s"] == pytest.approx(1 * MS)


def test_memory_of_each_stage_by_kind():
    row = row_of(model_of(Question((4,)), **EVEN))
    first, last = row["memory"][0], row["memory"][-1]
    assert (first["parameter_bytes"], first["optimizer_bytes"], first["held_bytes"]) == (10, 20, 30)
    assert first["gradient_bytes"] == 4 * (64 * 64 + 64 + 64 * 10 + 10)
    assert first["queue_bytes"] == 4 * 16_896 and last["queue_bytes"] == 0


def test_replicas_hold_the_queues_over_which_they_exchange_gradients():
    planned = Planned(config(**EVEN), Host(64, 0), Path("/nowhere"), Question((4,)))
    case = planned.case(find_way("onward"), 4, (1, 3, 1, 1))
    plain, replicated_, *_ = row_of(Model(case, Told(), Setting(Question((4,)), 64, FREE, 4)))["memory"]
    edges = edges_of(case.resolved, case.partition, 4, Replicas((1, 3, 1, 1)))
    processes = [sum(e.depth * e.slot_bytes for e in edges if e.src == process) for process in range(6)]
    assert plain["queue_bytes"] == processes[0] and replicated_["queue_bytes"] == max(processes[1:4])
    gradients = 4 * (64 * 64 + 64 + 64 * 10 + 10)
    assert replicated_["queue_bytes"] > 2 * gradients + processes[4]  # to two others, a third each, several times over


@pytest.mark.parametrize(("microbatches", "messages"), [(2, 1 + 2), (4, 2 + 3)])
def test_replicas_exchange_the_gradients_of_every_microbatch_and_then_the_sums(microbatches, messages):
    dealt = {**EVEN, "train": {"batch_size": 64, "microbatches": microbatches}}
    planned = Planned(config(**dealt), Host(64, 0), Path("/nowhere"), Question((4,)))
    case = planned.case(find_way("onward"), 4, (1, 2, 1, 1))
    row = row_of(Model(case, Told({1: 4.0}), Setting(Question((4,)), 64, WireCosts(MS, 0.0, 0.0, 0.0), 4)))
    # Half of 12 ms for each of them; what it sends upwards, its gradients and its sums take 1 ms a message.
    assert row["step_s"] == pytest.approx((6 + messages) * MS, rel=0.02)


def test_heads_are_counted_as_products():
    blocks, head = 2 * (3 * (64 * 64 + 64) + 64 * 10 + 10), 3 * 3 * (64 * 10 + 10)
    assert head_share(model_of(Question((4,)), **EVEN).case) == pytest.approx(head / (blocks + head))
    assert head_share(model_of(Question((4,)), "1f1b", **EVEN).case) == 0.0


def test_at_positions_every_product_is_one_of_each():
    text = {"dataset": {"name": "text", "window": 20, "windows": 640}, "rule": {"name": "aux"},
            "model": {"name": "transformer", "depth": 4, "layers_per_block": 1, "width": 8, "heads": 2}}
    layer, vectors, read_out = 12 * 8 * 8 + 2 * 8, (256 + 20) * 8, 8 * 256
    blocks, heads = 2 * 20 * (4 * layer + vectors + 8 + read_out), 3 * 20 * 3 * (read_out + 256)
    assert head_share(model_of(Question((4,)), **text).case) == pytest.approx(heads / (blocks + heads))


def test_the_best_placement_can_be_run():
    table = placed(config(), row_of(model_of(Question((2,)), stages=2, **{"run": {"threads": 1, "partition": [3, 1]}})))
    again = Config.from_dict(table)
    assert again.run.stages == 2 and again.run.partition == [3, 1] and again.schedule.mode == "parallel"


G1 = {"schedule": {"mode": "gated"}, "gate": {"form": "G1", "probe_every": 2, "probe_samples": 512}}
SEQUENTIAL = {"schedule": {"mode": "sequential"}}


def test_a_mode_that_is_not_parallel_is_planned_as_parallel_and_stays():
    lines = [planned_as(config(**sections)) for sections in (G1, {"schedule": {"mode": "gated"}}, SEQUENTIAL, {})]
    assert lines[3] == [] and all(len(line) == 1 and "planned as the mode parallel" in line[0] for line in lines[:3])
    assert "under gated a probe of 512 samples passes every 2 steps" in lines[0][0]
    assert "under gated blocks learn one after another" in lines[1][0] and "under sequential blocks" in lines[2][0]
    for sections in (G1, SEQUENTIAL):
        row = row_of(model_of(Question((2,)), stages=2, **sections))
        table = placed(config(**sections), row)
        assert row["mode"] == "parallel" and table["schedule"]["mode"] == sections["schedule"]["mode"]
        row = row_of(model_of(Question((2,)), "backprop", stages=1, **sections))
        assert placed(config(**sections), row)["schedule"]["mode"] == "backprop"


def test_the_best_row_is_of_the_mode_that_the_config_names():
    found = rows(Question((1, 4)), **EVEN)
    for mode, way in (("parallel", "onward"), ("1f1b", "1f1b"), ("backprop", "backprop"), ("sequential", "onward")):
        of_mode = config(**EVEN, schedule={"mode": mode})
        best = _best(of_mode, found)
        assert best["schedule"] == way
        assert best["samples_per_s"] == max(row["samples_per_s"] for row in found if row["schedule"] == way)
        assert placed(of_mode, best)["schedule"]["mode"] == mode
    pipedream = config(**EVEN, schedule={"mode": "pipedream"})
    assert _best(pipedream, found)["schedule"] == "onward" and "no rows of pipedream" in planned_as(pipedream)[0]


@pytest.mark.parametrize("in_flight", [4, 8, 16])
@pytest.mark.parametrize("rule", ["dfa", "dni"])
def test_late_feedback_does_not_make_the_drain_a_step(rule, in_flight):
    """Each stage takes 3 ms for a batch, however many are in flight."""
    sections = {"rule": {"name": rule}, "train": {"batch_size": 64, "in_flight": in_flight}, **EVEN}
    row = row_of(model_of(Question((4,)), **sections))
    assert row["step_s"] == pytest.approx(3 * MS, rel=0.01) and row["bubble"] < 0.2


def test_the_memory_of_a_gated_run_has_queues_for_its_probe():
    plain, probed, wave = (
        row_of(model_of(Question((4,)), **sections, **EVEN))["memory"][0]["queue_bytes"]
        for sections in ({}, G1, {"schedule": {"mode": "gated"}})
    )
    assert plain == wave == 4 * 64 * (64 * 4 + 8) and probed == 4 * 512 * (64 * 4 + 8)
    of_others = row_of(model_of(Question((4,)), "1f1b", **G1, **EVEN))["memory"][0]["queue_bytes"]
    assert of_others == row_of(model_of(Question((4,)), "1f1b", **EVEN))["memory"][0]["queue_bytes"]


def test_one_stage_can_be_run_in_place_of_those_that_are_listed():
    row = row_of(model_of(Question((1,)), stages=1, **EVEN))
    assert placed(config(**EVEN), row)["run"]["partition"] == [4]


def test_a_config_with_replicas_is_planned_without_them_and_its_rows_can_be_run():
    asked = {"run": {"threads": 1, "stages": 4, "partition": [1, 1, 1, 1], "replicas": [1, 2, 1, 1]}}
    found = rows(Question((1, 4)), **asked)
    assert [row["replicas"] for row in found] == [[1] * len(row["replicas"]) for row in found]
    table = placed(config(**asked), found[1])
    assert table["run"]["replicas"] == 1 and table["train"]["microbatches"] == 0


def test_a_row_with_replicas_can_be_run_with_as_many_microbatches():
    planned = Planned(config(**EVEN), Host(64, 0), Path("/nowhere"), Question((4,)))
    case = planned.case(find_way("onward"), 4, (1, 3, 1, 2))
    table = placed(config(**EVEN), row_of(Model(case, Told(), Setting(Question((4,)), 64, FREE, 4))))
    assert table["train"]["microbatches"] == 6
    again = resolve(Config.from_dict(table), Path("/nowhere"))
    assert list(again.config.run.replicas) == [1, 3, 1, 2] and again.batching.microbatches == 6


def test_a_way_that_is_refused_is_left_out_and_said_once(caplog):
    # Parts of four samples: of one in four micro-batches, and in four processes.
    model = {"name": "mlp", "depth": 3, "width": 64, "norm": "batch"}
    found = rows(Question((2, 4)), model=model, train={"batch_size": 4}, **EVEN)
    assert list(by_schedule(found)) == [("onward", 2), ("onward", 4), ("ddp", 2), ("backprop", 1)]
    said = [record.getMessage() for record in caplog.records if record.name == "workers.planner.asked"]
    ways = ["1f1b on 2, 4", "gpipe on 2, 4", "ddp on 4"]
    assert [line.partition(":")[0] for line in said] == [f"{way} is left out of the plan" for way in ways]
    assert all("batch normalisation needs two samples" in line for line in said)


def test_ways_that_are_all_refused_are_an_error():
    model = {"name": "mlp", "depth": 3, "width": 64, "norm": "batch"}
    question = Question((2, 4))
    planned = Planned(config(model=model, train={"batch_size": 4}, **EVEN), Host(64, 0), Path("/nowhere"), question)
    with pytest.raises(ConfigError, match="batch normalisation needs two samples"):
        planned_runs(planned, question, ["1f1b", "gpipe"])
    assert [case.way.name for case in planned_runs(planned, question, ["onward", "gpipe"])] == ["onward", "onward"]


def test_an_own_schedule_that_is_refused_is_an_error():
    with pytest.raises(ConfigError, match="late feedback counts whole batches"):
        rows(Question((2, 4)), rule={"name": "fa"}, train={"batch_size": 64, "in_flight": 2, "microbatches": 2})


def with_replicas(caplog, question, profiles=None, **sections):
    planned = Planned(config(**sections), Host(64, 0), Path("/nowhere"), question)
    setting = Setting(question, 64, FREE, 4)
    found = cases_with_replicas(planned_runs(planned, question), planned, profiles or Told(), setting)
    said = [record.getMessage() for record in caplog.records if record.name == "workers.planner.replicas"]
    return [(case.stages, case.replicas, case.resolved.batching.microbatches) for case in found], said


def test_replicas_are_those_that_were_asked_for(caplog):
    assert with_replicas(caplog, Question((2, 4), replicas=(1, 2))) == ([(2, (1, 2), 2)], [])
    assert with_replicas(caplog, Question((1, 2), replicas=(2,))) == ([(1, (2,), 2), (2, (2, 2), 2)], [])
    slow = with_replicas(caplog, Question((4,), replicas="auto"), Told({1: 2.0}), **EVEN)
    assert slow == ([(4, (1, 2, 1, 1), 2)], [])
    assert with_replicas(caplog, Question((4,), replicas="auto"), **EVEN) == ([], [])


def test_replicas_that_fit_no_stages_are_said_once(caplog):
    found, said = with_replicas(caplog, Question((2, 4), replicas=(1, 2, 1)))
    assert found == [] and said == [
        "replicas are left out of the plan (given: --replicas 1,2,1 with --stages 2,4, expected: one number, or one "
        "for each stage). Name 3 stages, or other replicas."
    ]


@pytest.mark.parametrize(
    ("sections", "told"),
    [({"rule": {"name": "predsim"}}, "the rule predsim learns from a batch as a whole"),
     ({"train": {"batch_size": 64, "microbatches": 3}}, "expected: a multiple of 2")],
)  # fmt: skip
def test_replicas_that_are_refused_are_said_once(caplog, sections, told):
    found, said = with_replicas(caplog, Question((2, 4), replicas=(2,)), **sections)
    assert found == [] and len(said) == 1 and said[0].startswith("replicas are left out of the plan: ")
    assert told in said[0]


def test_a_plan_in_words():
    found = rows(Question((1, 4)), **EVEN)
    text = plan_lines(found, found[1], "plan: it")
    assert text[0] == "plan: it" and text[1].split()[:2] == ["schedule", "stages"]
    assert text[3].startswith("onward    4       1 1 1 1") and any("for at most 2 % loss" in line for line in text)


def test_a_list_of_emulated_times_is_for_its_number_of_stages():
    emulated = {"chaos": {"compute": "sleep", "compute_s": [0.1, 0.2, 0.3, 0.4], "delay_s": 0.5}}
    assert model_of(Question((4,)), **EVEN, **emulated).case.resolved.config.chaos.delay_s == 0.5
    told = [
        model_of(Question((4,)), schedule, n, **emulated).case.resolved.config.chaos
        for schedule, n in (("backprop", 1), ("ddp", 4))
    ]
    assert [chaos.compute_s for chaos in told] == [[pytest.approx(1.0)], [pytest.approx(0.25)]]
    assert [chaos.delay_s for chaos in told] == [0.0, 0.0]
    with pytest.raises(ConfigError, match="chaos.compute_s lists 4 times and the run has 2 stages"):
        model_of(Question((2,)), stages=2, **emulated)


def test_rules_that_settle_cannot_be_planned():
    with pytest.raises(ConfigError, match="exchanges of several rounds cannot be planned"):
        model_of(Question((4,)), rule={"name": "tests.support.settling_rule.build"})


def test_several_ways_of_feedback_cannot_be_planned():
    with pytest.raises(ConfigError, match=r"several ways of feedback cannot be planned \(rule: pred.backprop"):
        model_of(Question((4,)), rule={"name": "pred", "blocks": {"0": {"name": "backprop"}}})


class Slower(Told):
    """Stages that take twice as long beside another one."""

    def of(self, job):
        return dataclasses.replace(super().of(job), slowdown=2.0)


@pytest.mark.parametrize(
    ("hosts", "cores", "step_s"), [(1, 2, 24 * MS), (2, 2, 12 * MS), (2, 4, 12 * MS), (1, 4, 24 * MS)]
)
def test_data_parallelism_is_slowed_by_those_beside_it_on_a_host(hosts, cores, step_s):
    """Two processes, which take 12 ms alone."""
    question = Question((2,), hosts=hosts)
    row = row_of(model_of(question, "ddp", 2, Slower(), cores=cores, **{"run": {"threads": 0}}))
    assert row["step_s"] == pytest.approx(step_s) and row["samples_per_s"] == pytest.approx(64 / step_s)


def test_data_parallelism_counts_the_samples_that_there_are():
    row = row_of(model_of(Question((8,)), "ddp", 8, **{"train": {"batch_size": 50}}))
    assert row["samples_per_s"] * row["step_s"] == pytest.approx(50)


@pytest.mark.parametrize(("compute_s", "asked"), [(0.02, []), ([0.01, 0.02], []), ("measured", [2])])
def test_blocks_are_measured_for_emulated_stages_only_where_that_was_asked_for(monkeypatch, compute_s, asked):
    found = tell_costs(monkeypatch, Taken(500.0, 1.0))
    sections = {"chaos": {"compute": "sleep", "compute_s": compute_s}, "run": {"threads": 2, "partition": [2, 2]}}
    Planned(config(**sections), Host(4, 0), Path("/nowhere"), Question((2,))).case(find_way("onward"), 2)
    assert [each["threads"] for each in found] == asked


@pytest.mark.parametrize(("cores", "threads", "times", "bottleneck"), [(2, 2, 2.0, "cores"), (3, 2, 4 / 3, "cores"),
                                                                       (4, 2, 1.0, "stage 0")])  # fmt: skip
def test_threads_share_the_cores(cores, threads, times, bottleneck):
    """Two stages of 6 ms."""
    row = row_of(model_of(Question((2,)), stages=2, cores=cores, **{"run": {"threads": threads, "partition": [2, 2]}}))
    assert row["step_s"] == pytest.approx(6 * MS * times, rel=0.02) and row["bottleneck"].startswith(bottleneck[:5])
