import json
import re
from types import SimpleNamespace

import pytest
import torch

from benchmarks import scaling as module
from benchmarks import emulated_ddp as ddp_module
from benchmarks.emulated_ddp import emulated_ddp
from benchmarks.emulated_torch import Waits, emulated_torch
from benchmarks.scaling import emulated_config, with_efficiency
from benchmarks.tables import render
from benchmarks.watched_run import epochs_of, watch_run


def point(kind, compute, schedule, stages, rate, **more):
    base = {"kind": kind, "compute": compute, "schedule": schedule, "stages": stages, "samples_per_s": rate,
            "planned": 110.0, "bound": 200.0, "note": "not measured"}  # fmt: skip
    return {**base, **more}


POINTS = [
    point("strong", "emulated", "onward", 1, 100.0, start_s=1.0, end_s=2.0, cpu={"coordinator": 0.0123, "stages": None},
          peak_rss_bytes=2**20),
    point("strong", "emulated", "onward", 4, 380.0, start_s=1.0, end_s=2.0, cpu={"coordinator": None, "stages": 1.5},
          peak_rss_bytes=2**20),
    point("weak", "emulated", "ddp", 8, None, planned=None),
    point("strong", "real", "gpipe", 2, 50.0, microbatches=8),
]  # fmt: skip


def test_efficiency_is_over_the_stages_and_over_the_slowest_one():
    one, four, missing, real = with_efficiency(POINTS)
    assert one["efficiency"] == 1.0 and four["efficiency"] == pytest.approx(0.95)
    assert four["of_slowest_stage"] == pytest.approx(1.9) and four["plan_error"] == pytest.approx(110 / 380 - 1)
    assert missing["efficiency"] is None and missing["of_slowest_stage"] is None
    assert real["efficiency"] is None  # its own single stage was not measured: never that of the emulation


def test_weak_scaling_is_over_one_stage():
    rows = [point("weak", "emulated", "onward", n, rate) for n, rate in ((1, 100.0), (64, 90.0))]
    assert with_efficiency(rows)[1]["efficiency"] == pytest.approx(0.9)


def test_measured_and_emulated_are_in_tables_of_their_own(tmp_path):
    (tmp_path / "scaling.json").write_text(json.dumps({"points": with_efficiency(POINTS)}))
    strong, real = render("scaling-emulated-strong", tmp_path), render("scaling-real-strong", tmp_path)
    assert "emulated compute" in strong and strong.count("\n") == 3 and "| onward | 4 | - | 380 | 95 % |" in strong
    assert "real compute" in real and "| gpipe | 2 | 8 | 50" in real and "onward" not in real
    assert "not measured" in render("scaling-emulated-weak", tmp_path)
    assert "| 1 | strong | 1.0 s | 2.0 s | 0.012 | - | 1.0 MiB |" in render("scaling-runtime", tmp_path)


def test_a_run_is_watched_from_outside(tmp_path):
    config = emulated_config(2, 2, 0.004, "parallel")
    warm, epochs = epochs_of(config, module.STEPS, 0.004, 0.5)
    assert (warm, epochs) == (11, 11 + 5 + 1)
    found = watch_run(module.dataclasses.replace(config, train=module.dataclasses.replace(config.train, epochs=5)), 1,
                      module.BATCH * module.STEPS, tmp_path)  # fmt: skip
    assert 0 < found["samples_per_s"] <= 1.05 * module.BATCH / 0.004
    assert found["start_s"] > 0 and found["end_s"] > 0 and len(found["memory"]) == 2


def test_a_run_that_fails_says_why(tmp_path):
    config = emulated_config(2, 2, 0.004, "parallel")
    wrong = module.dataclasses.replace(config, run=module.dataclasses.replace(config.run, stages=3))
    told = r"a run of the study failed \(exit status 2\): launch.py: cannot split 2 blocks"
    with pytest.raises(RuntimeError, match=told):
        watch_run(wrong, 1, 100, tmp_path)


@pytest.mark.distributed
def test_emulated_data_parallelism_runs():
    assert emulated_ddp(2, 0.01, 1000, 0.1) > 0


@pytest.mark.parametrize(("num_bytes", "buckets"), [(1000, 1), (9 * 2**20, 3)])
def test_emulated_data_parallelism_exchanges_each_bucket_when_its_time_has_passed(monkeypatch, num_bytes, buckets):
    done, sizes = [], []
    monkeypatch.setattr(ddp_module, "Waiter", lambda: SimpleNamespace(wait=done.append))
    monkeypatch.setattr(ddp_module.dist, "all_reduce", lambda bucket, async_op: (
        done.append("exchange"), sizes.append(4 * len(bucket)), None,
    )[-1])  # fmt: skip
    ddp_module._step(0.3, num_bytes, 0, 2)()
    waits = done[1::2]
    assert done[0] == pytest.approx(0.1) and done[2::2] == ["exchange"] * buckets
    assert len(waits) == buckets and sum(waits) == pytest.approx(0.2) and sum(sizes) == pytest.approx(num_bytes, abs=12)


@pytest.mark.distributed
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_torchs_own_pipelines_run_under_emulation(schedule):
    assert emulated_torch(schedule, 2, 0.01, (4, 8), 2, 0.1) > 0


@pytest.mark.distributed
def test_a_process_that_fails_says_why():
    """torch's 1F1B has at least as many micro-batches as stages."""
    said = (r"(?s)^emulated processes did not end well \(given: 2 of them; .*process \d; it says: Traceback.*"
            r"ValueError: .*Lower --others-most if they are too many for this machine\.$")  # fmt: skip
    with pytest.raises(RuntimeError, match=said):
        emulated_torch("1f1b", 2, 0.01, (4, 8), 1, 0.1)


def test_an_emulated_stage_waits_a_third_forward_and_the_rest_backward():
    waited = []
    stage = Waits(SimpleNamespace(wait=waited.append), 0.3)
    x = torch.ones(2, 4)
    out = stage(x)
    assert torch.equal(out, x) and waited == [pytest.approx(0.1)]
    out.sum().backward()  # the samples need no gradient, as on the first stage
    assert waited == [pytest.approx(0.1), pytest.approx(0.2)]


@pytest.mark.parametrize(("stages", "tried"), [(1, [4]), (2, [4, 8]), (8, [8, 32]), (64, [32])])
def test_pipelines_that_flush_have_one_and_four_micro_batches_a_stage(stages, tried):
    assert module.microbatches_of(stages) == tried


def test_a_study_has_every_point(monkeypatch, capsys):
    plans = {name: {"schedule": name, "step_s": 0.02, "samples_per_s": 1000.0, "stage_s": [0.02], "partition": [9],
                    "threads": 1, "microbatches": 4} for name in module.SCHEDULES}  # fmt: skip
    monkeypatch.setattr(module, "plan_rows", lambda *args, **kwargs: list(plans.values()))
    monkeypatch.setattr(module, "this_host", lambda: module.Host(2, 0))
    watched = {"samples_per_s": 900.0, "windows": [], "run_samples_per_s": 1.0, "start_s": 1.0, "end_s": 1.0,
               "cpu": {"coordinator": 0.1, "stages": 0.2}, "memory": [{"peak_rss_bytes": 1}]}  # fmt: skip
    monkeypatch.setattr(module, "watch_run", lambda *args: watched)
    monkeypatch.setattr(module, "emulated_ddp", lambda *args: 0.05)
    tried = []
    monkeypatch.setattr(module, "emulated_torch", lambda *args: tried.append(args[4]) or 0.1 + args[4] / 1000)
    assert module.main(["--stages", "1,2,64", "--others-most", "2", "--strong-most", "64"]) == 0
    said = capsys.readouterr().out
    assert tried.count(8) == tried.count(4) == 2 * 2 and 32 not in tried  # torch's, on two stages, twice
    assert said.count("emulated, strong") == said.count("emulated, weak") == 1 + 6 + 6
    assert "emulated, weak, torch-1f1b on 2: 308 samples/s; efficiency" in said  # with 4 parts, not 8
    assert "real, weak, onward on 1: 900 samples/s" in said and "real, weak, gpipe on 2" in said
    assert "emulated, weak, ddp on 64: -; efficiency -" in said and "real, strong, onward on 1: 900 samples/s" in said


def test_torchs_1f1b_is_not_asked_for_more_stages_than_micro_batches(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "emulated_torch", lambda *args: 0.05)
    study = module.Study((64,), (), (), 0.02, 1.0, module.PRESETS["mlp-8x128"], 64, 64, module.Host(2, 0))
    config = emulated_config(64, 64, 0.02, "1f1b", 32)
    assert module._torchs(study, config, "torch-gpipe", tmp_path)["samples_per_s"] == 640
    assert "refused: 64 stages need 64" in module._torchs(study, config, "torch-1f1b", tmp_path)["note"]


def test_strong_scaling_over_many_stages_is_left_out():
    """One stage has all blocks: 64 of them at 20 ms would take longer than anyone waits."""
    study = module.Study((1, 8, 64), ("strong",), (), 0.02, 1.0, module.PRESETS["mlp-8x128"], 16, 16, module.Host(2, 0))
    assert study.of_strong == (1, 8)
    assert module.dataclasses.replace(study, stages=(32, 64)).of_strong == (32,)


def test_weak_scaling_has_as_many_layers_for_each_stage():
    preset = module.PRESETS["mlp-8x128"]
    depths = [module.shallower(preset, count, 4).model.options["depth"] for count in (1, 2, 4)]
    assert depths == [2, 4, 8] and module.shallower(preset, 4, 4).model == preset.model
    assert module.shallower(module.PRESETS["vgg8b-quarter"], 1, 2) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--schedules", "onward,torch_gpipe"], r"unknown schedule \(given: 'torch_gpipe', expected: onward, 1f1b"),
        (["--stages", "1,x"], r"cannot read the numbers of stages \(given: '1,x', expected: 1,2,4\)"),
        (["--stages", "0"], "cannot read the numbers of stages"),
    ],
)
def test_an_option_that_is_wrong_is_named(capsys, flags, said):
    with pytest.raises(SystemExit, match="2"):
        module.main(flags)
    assert re.search(said, capsys.readouterr().err)
