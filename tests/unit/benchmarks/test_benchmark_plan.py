"""The planner's study: its cells, its protocol and its tables; plans and runs are told."""

import json

import pytest

from benchmarks import plan as module
from benchmarks.plan import compared, errors, planned_config
from benchmarks.plan_cells import CELLS, Cell, cells
from benchmarks.presets import PRESETS
from benchmarks.probe import Probe, drift
from benchmarks.tables import render

MEMORY = {"parameter_bytes": 100, "optimizer_bytes": 0, "held_bytes": 0, "queue_bytes": 0}
PLANNED = {
    "schedule": "onward", "stages": 2, "partition": [5, 4], "replicas": [1, 1], "mode": "parallel", "threads": 1,
    "step_s": 0.01, "simulated_step_s": 0.01, "rehearsed": False, "samples_per_s": 5000.0, "bottleneck": "stage 0",
    "least_depth": 9,
    "memory": [{**MEMORY, "parameter_bytes": 90, "queue_bytes": 10}, {**MEMORY, "parameter_bytes": 95}],
}  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    """What happens, in its order: each plan, with how it was asked for, each look and each run."""
    happened = []

    def plan(config, question, host, folder, *, fresh, ways):
        has_link = question.link is not None or config.chaos.delay_s > 0
        happened.append(("plan", ways, question.stages, fresh, has_link))
        rate = 5000.0 if has_link else 8000.0
        return [PLANNED | {"samples_per_s": rate, "simulated_step_s": 50.0 / rate}]

    def watch(config, warm, num_samples, folder, look_s):
        happened.append(("run", config.chaos.delay_s, num_samples))
        assert config.transport.depth == 4  # that of the cell, not the plan's own advice
        return {"samples_per_s": 4000.0, "memory": [MEMORY, MEMORY]}

    def linked(preset, row, rate, seconds):
        happened.append(("linked", rate))
        return {"samples_per_s": 4000.0, "memory": [MEMORY, MEMORY]}

    monkeypatch.setattr(module, "plan_rows", plan)
    monkeypatch.setattr(module, "watch_run", watch)
    monkeypatch.setattr(module, "linked_run", linked)
    return happened


class Looks(Probe):
    """A machine that gets slower from look to look."""

    def look(self):
        self.found.append(100.0 - len(self.found))
        return self.found[-1]


def test_there_are_cells_of_every_kind():
    """The study is one of at least twenty runs, of both kinds of nets, of one to four stages, over several links."""
    here = cells((), (), over_hosts=False)
    assert len(here) >= 20 and {cell.preset for cell in here} == {"mlp-8x1024", "mlp-8x128", "vgg8b-quarter"}
    assert {cell.stages for cell in here} == {1, 2, 4} and {cell.delay_s for cell in here} == {0.0, 0.005, 0.02}
    assert {cell.schedule for cell in here} == {"onward", "1f1b", "gpipe", "backprop"}
    assert any(cell.replicas for cell in here) and len(set(CELLS)) == len(CELLS)
    assert all(cell.mbit_per_s is None for cell in here)
    assert any(cell.mbit_per_s is not None for cell in cells((), (), over_hosts=True))


def test_cells_are_chosen_by_preset_and_stages():
    found = cells(["mlp-8x128"], [1], over_hosts=True)
    assert found and {(cell.preset, cell.stages) for cell in found} == {("mlp-8x128", 1)}


def test_the_plan_leaves_the_stages_open():
    config = planned_config(PRESETS["mlp-8x128"], 0.01)
    assert (config.run.stages, config.run.partition, config.chaos.delay_s) == ("auto", "measured", 0.01)


def test_each_run_follows_its_own_profile(told):
    near = Cell(preset="mlp-8x128", schedule="onward", stages=2)
    far = Cell(preset="mlp-8x128", schedule="1f1b", stages=2, delay_s=0.02)
    rows = list(compared([near, far], 2, 1.0, Looks(2)))
    ours, late = ("plan", ("onward",), (2,), True, False), ("plan", ("1f1b",), (2,), True, True)
    without = ("plan", ("1f1b",), (2,), False, False)  # of the same profiles
    run, late_run = ("run", 0.0, 2000), ("run", 0.02, 2000)  # epochs of 40 steps of 10 ms
    assert told == [ours, run, late, late_run, without, late, late_run, without, ours, run]
    assert [row["round"] for row in rows] == [0, 0, 1, 1]
    assert [row["link_limited"] for row in rows] == [False, True, True, False]
    assert rows[0]["flop_per_s"] == [100.0, 99.0, 98.0] and rows[1]["flop_per_s"] == [98.0, 97.0, 96.0]


def test_a_row_has_both_errors_and_what_the_machine_did(told):
    (row,) = compared([Cell(preset="mlp-8x128", schedule="1f1b", stages=2, delay_s=0.02)], 1, 1.0, Looks(2))
    assert row["error"] == pytest.approx(0.25) and row["memory_error"] == pytest.approx(-0.05)
    assert row["simulated_error"] == pytest.approx(0.25) and not row["rehearsed"]
    assert row["drift"] == pytest.approx((99 + 98) / (100 + 99) - 1) and row["planning_s"] >= 0


def test_of_several_starts_the_median_counts(told, monkeypatch):
    rates = iter([4000.0, 2000.0, 3200.0])
    memory = [MEMORY, MEMORY]
    monkeypatch.setattr(module, "watch_run", lambda *_, **__: {"samples_per_s": next(rates), "memory": memory})
    (row,) = compared([Cell(preset="mlp-8x128", schedule="onward", stages=2)], 1, 1.0, Looks(2), 3)
    assert row["measured"] == 3200.0 and row["error"] == pytest.approx(1.5)
    assert row["starts"] == [4000.0, 2000.0, 3200.0]


def test_a_link_with_a_rate_is_run_over_hosts(told, monkeypatch):
    asked, real = [], module.plan_rows

    def plan(config, question, *args, **kwargs):
        asked.append((config.transport.name, question.link is not None, config.run.predict))
        return real(config, question, *args, **kwargs)

    monkeypatch.setattr(module, "plan_rows", plan)
    (row,) = compared([Cell(preset="mlp-8x128", schedule="onward", stages=2, mbit_per_s=10.0)], 1, 1.0, Looks(2))
    assert ("linked", 10.0) in told and row["link_limited"]
    assert asked == [("process_group", True, True), ("process_group", False, False)]  # the link is the difference


def test_each_replica_holds_what_its_stage_was_planned_to_hold():
    row = {**PLANNED, "replicas": [1, 2]}
    near = Cell(preset="mlp-8x128", schedule="onward", stages=2)
    assert module._memory_error(near, row, [MEMORY, MEMORY, MEMORY]) == pytest.approx(-0.05)
    far = Cell(preset="mlp-8x128", schedule="onward", stages=2, mbit_per_s=10.0)
    full = [{**MEMORY, "queue_bytes": 10 * (1 + MEMORY["queue_bytes"])}] * 3
    assert module._memory_error(far, row, full) == pytest.approx(module._memory_error(far, row, [MEMORY] * 3))


def test_a_machine_that_got_faster_has_a_drift():
    assert drift(100.0, 100.0, 100.0) == 0.0 and drift(90.0, 100.0, 110.0) == pytest.approx(210 / 190 - 1)


def test_a_look_is_a_rate_and_leaves_the_threads_alone():
    import torch

    before, probe = torch.get_num_threads(), Probe(2, seconds=0.0)
    assert probe.look() > 0 and probe.found == [probe.found[0]] and torch.get_num_threads() == before


ROWS = [
    {"preset": "mlp", "schedule": schedule, "stages": 2, "delay_s": 0.0, "replicas": replicas, "mbit_per_s": rate,
     "predicted": 90.0, "measured": 100.0, "error": e, "memory_error": m, "drift": 0.01,
     "link_limited": rate is not None, "rehearsed": bool(replicas), "simulated_error": 0.5 if replicas else e}
    for schedule, replicas, rate, e, m in (
        ("onward", [], None, -0.1, 0.0), ("1f1b", [2, 2], None, 0.02, -0.01), ("1f1b", [], 100.0, 0.03, 0.005),
    )
]  # fmt: skip


def test_errors_are_told_by_group():
    found = errors(ROWS)
    assert (found["runs"], found["median"], found["worst"], found["memory_worst"]) == (3, 0.03, 0.1, 0.01)
    groups = found["groups"]
    assert groups["1f1b"] == {"runs": 2, "median": pytest.approx(0.025), "worst": 0.03, "memory_worst": 0.01}
    assert {name: each["runs"] for name, each in groups.items()} == {
        "mlp": 3, "onward": 1, "2 stages": 3, "1f1b": 2, "replicas": 1, "limited by the link": 1,
        "simulated alone": 2, "tried for a moment": 1, "the tried ones, simulated": 1,
    }  # fmt: skip
    assert (groups["tried for a moment"]["worst"], groups["the tried ones, simulated"]["worst"]) == (0.02, 0.5)


def test_the_tables_show_each_run_and_each_group(tmp_path):
    times = {"mlp": {"cold_s": 12.34, "cached_s": 1.0}}
    (tmp_path / "plan.json").write_text(json.dumps({"rows": ROWS, "errors": errors(ROWS), "planning": times}))
    text = render("plan-errors", tmp_path)
    assert "| mlp, onward | 2 | 0 ms | 90.0 | 100 | -10.0 % | - | +1.0 % | +0.0 % |" in text
    assert "| mlp, 1f1b | 2, 2 + 2 replicas | 0 ms | 90.0 | 100 | +2.0 % | +50.0 % |" in text
    assert "| mlp, 1f1b | 2 | 100 Mbit/s |" in text
    assert "| all | 3 | 3.0 % | 10.0 % | 1.0 % |" in text and "| limited by the link | 1 | 3.0 % |" in text
    assert text.endswith("`--plan` of mlp: 12.3 s with nothing known, then 1.0 s.")


def test_a_study_is_written_down_from_its_first_run_on(told, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module, "why_not", lambda: "no root")
    monkeypatch.setattr(module, "planning_seconds", lambda preset: {"cold_s": 5.0, "cached_s": 0.5})
    monkeypatch.setattr(module, "Probe", Looks)
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path))
    out = tmp_path / "plan.json"
    asked = ["--preset", "mlp-8x128", "--stages", "2", "--schedule", "onward", "--out", str(out)]
    assert module.main(asked) == 0
    found, said = json.loads(out.read_text()), capsys.readouterr().out
    assert len(found["rows"]) == 3 and found["errors"]["worst"] == pytest.approx(1.0)
    assert found["planning"] == {"mlp-8x128": {"cold_s": 5.0, "cached_s": 0.5}}
    assert "links with a rate are left out: no root" in said
    assert "mlp-8x128, onward, 2 stages, 5 ms: planned 5000, measured 4000 samples/s, +25.0% (machine -1.0%)" in said
    assert module.os.environ["ONWARD_CACHE"] == str(tmp_path)


def test_a_study_without_a_cell_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(module, "why_not", lambda: "no root")
    with pytest.raises(SystemExit):
        module.main(["--preset", "mlp-8x128", "--stages", "3"])
    assert "no cell has all of that (given: presets ['mlp-8x128'], stages [3], schedules all" in capsys.readouterr().err
