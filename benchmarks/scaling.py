"""Strong and weak scaling over 1, 2, 4, ... stages: Onward, GPipe, 1F1B and data parallelism, beside the planner.

    python -m benchmarks.scaling --out benchmarks/results/scaling.json            # one command, also on 8 GPUs
    python -m benchmarks.scaling --stages 1,8,64 --kind weak --schedules onward   # what the runtime costs

Strong: the same network on more stages. Weak: a block more for each stage. Points that have a core or a GPU for each
stage are also measured with real compute, on a preset (weak: as many of its layers for each stage); all are measured
with emulated compute, where a stage waits in place of computing and everything else is real. Efficiency is throughput
over the stages times that of one stage (weak: over that of one stage, whose work is one block's), and over what the
blocks of the slowest stage allow.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.emulated_ddp import emulated_ddp
from benchmarks.emulated_torch import emulated_torch
from benchmarks.harness import environment, leave_on_sigterm, write
from benchmarks.presets import PRESETS, Preset
from benchmarks.watched_run import epochs_of, watch_run
from pipeline.config import ChaosConfig, Config, NamedConfig, RunConfig, ScheduleConfig, TrainConfig
from pipeline.resolve import resolve
from workers.flag_parser import whole_numbers
from workers.host.limits import raise_open_files
from workers.placement import Host, this_host
from workers.planner.command import plan_rows
from workers.planner.links import Question
from workers.planner.ways import find_way

__all__ = ["emulated_config", "main", "points", "with_efficiency"]

BATCH, WIDTH, STEPS = 32, 64, 25
_FLUSHED = ("1f1b", "gpipe")
_OTHERS = ("torch-1f1b", "torch-gpipe", "ddp")
SCHEDULES = ("onward", *_FLUSHED, *_OTHERS)
_MOST = 9_999
"""Stages."""
_NEVER = 1_000_000_000


def microbatches_of(stages: int) -> list[int]:
    """Micro-batches that are tried of a schedule that flushes: one and four for each stage, at least 4, and as many as
    the batch has samples at most. More of them leave a smaller bubble, and cost more messages."""
    return sorted({min(BATCH, max(4, count)) for count in (stages, 4 * stages)})


def emulated_config(blocks: int, stages: int, compute_s: float, mode: str, microbatches: int = 0) -> Config:
    """A network of ``blocks`` equal blocks on ``stages`` stages, each of which takes ``compute_s`` a step."""
    data = {"shape": [WIDTH], "num_train": BATCH * STEPS, "num_test": 2}
    hidden = {"depth": blocks - 1, "width": WIDTH, "norm": "none"}
    sizes = [blocks // stages + (k < blocks % stages) for k in range(stages)]
    return Config(
        model=NamedConfig(name="mlp", options=hidden), dataset=NamedConfig(name="noise", options=data),
        rule=NamedConfig(name="pred" if mode == "parallel" else "backprop"),
        train=TrainConfig(batch_size=BATCH, eval_every=_NEVER, eval_batch_size=2, microbatches=microbatches),
        schedule=ScheduleConfig(mode=mode),
        run=RunConfig(stages=stages, partition=sizes, threads=1, predict=False),
        chaos=ChaosConfig(compute="sleep", compute_s=compute_s),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Study:
    """What is measured, and for how long."""

    stages: tuple[int, ...]
    kinds: tuple[str, ...]
    schedules: tuple[str, ...]
    compute_s: float
    """Of one block and step, where compute is emulated."""
    seconds: float
    preset: Preset
    others_most: int
    """Most processes of emulated data parallelism, and of torch's pipelines."""
    strong_most: int
    """Most stages, and blocks, of emulated strong scaling: one stage takes ``compute_s`` for each of them."""
    host: Host

    @property
    def of_strong(self) -> tuple[int, ...]:
        """Numbers of stages of emulated strong scaling; the last is its number of blocks."""
        return tuple(count for count in self.stages if count <= self.strong_most) or self.stages[:1]


def points(study: Study, folder: Path) -> Iterator[dict[str, Any]]:
    """Every point of a study, without its efficiency."""
    for kind in study.kinds:
        for count in study.stages if kind == "weak" else study.of_strong:
            yield from _emulated(study, kind, count, folder)
    here = [n for n in study.stages if n <= (study.host.num_gpus or study.host.cores)]
    for kind in study.kinds:
        for count in here:
            preset = study.preset if kind == "strong" else shallower(study.preset, count, here[-1])
            if preset is not None:
                yield from _real(study, preset, kind, count, folder)


def shallower(preset: Preset, count: int, most: int) -> Preset | None:
    """The network of weak scaling on ``count`` stages: as many hidden layers for each as the preset's has on ``most``;
    None where its model has no depth to choose."""
    options = preset.model.options
    if "depth" not in options:
        return None
    depth = max(1, round(int(options["depth"]) * count / most))
    return dataclasses.replace(preset, model=NamedConfig(name=preset.model.name, options={**options, "depth": depth}))


def _emulated(study: Study, kind: str, count: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Emulated points of one number of stages."""
    blocks = count if kind == "weak" else study.of_strong[-1]
    stage_s = study.compute_s * -(-blocks // count)
    for schedule in study.schedules:
        if count == 1 and schedule != "onward":
            continue
        about = {"kind": kind, "compute": "emulated", "stages": count, "schedule": schedule, "blocks": blocks}
        if schedule == "ddp":
            found = _ddp(study, blocks, emulated_config(blocks, count, stage_s, "parallel"))
        elif schedule == "onward":
            found = _own(study, emulated_config(blocks, count, stage_s, "parallel"), schedule, folder)
        else:
            of = _own if schedule in _FLUSHED else _torchs
            tried = (emulated_config(blocks, count, stage_s, "1f1b", parts) for parts in microbatches_of(count))
            measured = [of(study, config, schedule, folder) for config in tried]
            found = max(measured, key=lambda point: point["samples_per_s"] or 0.0)
        yield {**about, **found, "bound": found.get("bound", BATCH / stage_s)}


def _own(study: Study, config: Config, schedule: str, folder: Path) -> dict[str, Any]:
    """A schedule of Onward's beside its plan."""
    count = _processes(config)
    rows = plan_rows(config, Question((count,)), study.host, folder, ways=[schedule])
    row = next(row for row in rows if row["schedule"] == schedule)
    real = dataclasses.replace(config, schedule=ScheduleConfig(mode=find_way(schedule).mode))
    warm, epochs = epochs_of(real, STEPS, row["step_s"], study.seconds)
    real = dataclasses.replace(real, train=dataclasses.replace(real.train, epochs=epochs))
    return {**_point(watch_run(real, warm, BATCH * STEPS, folder), row), "microbatches": config.train.microbatches}


def _torchs(study: Study, config: Config, schedule: str, folder: Path) -> dict[str, Any]:
    """A pipeline of torch's under the same emulation, which is not planned."""
    count, stage_s, parts = _processes(config), config.chaos.compute_s, config.train.microbatches
    if count > study.others_most:
        return {"samples_per_s": None, "planned": None, "note": f"not measured beyond {study.others_most} processes"}
    name: Literal["gpipe", "1f1b"] = "gpipe" if schedule == "torch-gpipe" else "1f1b"
    if name == "1f1b" and parts < count:
        return {"samples_per_s": None, "planned": None, "note": f"refused: {count} stages need {count} micro-batches"}
    assert isinstance(stage_s, float), "told by the study"
    step_s = emulated_torch(name, count, stage_s, (BATCH, WIDTH), parts, study.seconds)
    return {"samples_per_s": BATCH / step_s, "planned": None, "microbatches": parts}


def _processes(config: Config) -> int:
    """Stages of an emulated config, or processes in their place."""
    assert isinstance(config.run.stages, int), "told by the study"
    return config.run.stages


def _ddp(study: Study, blocks: int, config: Config) -> dict[str, Any]:
    """Data parallelism under the same emulation: each process computes all blocks for its part of the batch."""
    count, whole = _processes(config), study.compute_s * blocks
    if count > study.others_most:
        return {"samples_per_s": None, "planned": None, "note": f"not measured beyond {study.others_most} processes"}
    shapes = resolve(dataclasses.replace(config, chaos=ChaosConfig()), Path("/nowhere")).shapes
    gradients = sum(4 * shape.num_parameters for shape in shapes)
    step_s = emulated_ddp(count, whole / count, gradients, study.seconds)
    alone = dataclasses.replace(config, chaos=dataclasses.replace(config.chaos, compute_s=whole))
    rows = plan_rows(alone, Question((count,)), study.host, Path("/nowhere"), ways=["ddp"])
    planned = next(row["samples_per_s"] for row in rows if row["schedule"] == "ddp")
    return {"samples_per_s": BATCH / step_s, "planned": planned, "bound": BATCH * count / whole}


def _real(study: Study, preset: Preset, kind: str, count: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Real points of one network on one number of stages."""
    config = preset.config(precision=preset.precision)
    auto = dataclasses.replace(config.run, stages="auto", partition="measured", predict=True)
    config = dataclasses.replace(config, run=auto)
    rows = {row["schedule"]: row for row in plan_rows(config, Question((count,)), study.host, folder)}
    for schedule in study.schedules:
        if schedule in _OTHERS or (count == 1 and schedule != "onward"):
            continue  # python -m benchmarks.throughput measures torch's own data parallelism and pipelines
        row = rows[schedule]
        real = preset.config(
            precision=preset.precision, mode=find_way(schedule).mode, partition=row["partition"], threads=row["threads"]
        )
        warm, epochs = epochs_of(real, preset.steps_per_epoch, row["step_s"], study.seconds)
        real = dataclasses.replace(real, train=dataclasses.replace(real.train, epochs=epochs))
        found = watch_run(real, warm, preset.num_samples, folder)
        about: dict[str, Any] = {"kind": kind, "compute": "real", "stages": count, "schedule": schedule}
        bound = preset.batch_size / max(row["stage_s"])
        blocks = sum(row["partition"])
        parts = row["microbatches"] if schedule in _FLUSHED else 0
        about.update(blocks=blocks, preset=preset.name, microbatches=parts)
        yield {**about, **_point(found, row), "bound": bound}


def _point(found: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured of a run beside what was planned."""
    kept = ("samples_per_s", "windows", "run_samples_per_s", "start_s", "end_s", "cpu")
    peak = max(stage["peak_rss_bytes"] for stage in found["memory"])
    return {**{key: found[key] for key in kept}, "planned": row["samples_per_s"], "peak_rss_bytes": peak}


def with_efficiency(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points with both efficiencies: over one stage of Onward's own, and over the slowest stage's blocks."""
    one = {
        (row["kind"], row["compute"]): row["samples_per_s"]
        for row in rows if row["stages"] == 1 and row["schedule"] == "onward"
    }  # fmt: skip
    found = []
    for row in rows:
        rate, base = row["samples_per_s"], one.get((row["kind"], row["compute"]))
        factor, bound = row["stages"] if row["kind"] == "strong" else 1, row.get("bound")
        found.append({
            **row, "efficiency": rate / (factor * base) if rate is not None and base is not None else None,
            "of_slowest_stage": rate / bound if rate is not None and bound else None,
            "plan_error": row["planned"] / rate - 1 if rate is not None and row["planned"] is not None else None,
        })  # fmt: skip
    return found


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line for each point, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--stages", default="1,2,4,8,16,32,64", help="numbers of stages")
    parser.add_argument("--kind", choices=("strong", "weak", "both"), default="both")
    parser.add_argument("--schedules", default=",".join(SCHEDULES))
    parser.add_argument("--compute-s", type=float, default=0.02, help="emulated compute of a block and step")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured of each point")
    parser.add_argument("--preset", choices=list(PRESETS), default="mlp-8x1024", help="of the points of real compute")
    parser.add_argument(
        "--others-most", type=int, default=16, help="most processes of emulated data parallelism and torch's pipelines"
    )
    parser.add_argument("--strong-most", type=int, default=16, help="most stages of emulated strong scaling")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    schedules, stages = options.schedules.split(","), whole_numbers(options.stages, _MOST)
    if unknown := [name for name in schedules if name not in SCHEDULES]:
        parser.error(f"unknown schedule (given: {unknown[0]!r}, expected: {', '.join(SCHEDULES)}). Correct it.")
    if stages is None:
        parser.error(f"cannot read the numbers of stages (given: {options.stages!r}, expected: 1,2,4). Correct them.")
    leave_on_sigterm()
    raise_open_files()
    about = environment("benchmarks.scaling", arguments)
    study = Study(
        tuple(sorted(set(stages))), ("strong", "weak") if options.kind == "both" else (options.kind,), tuple(schedules),
        options.compute_s, options.seconds, PRESETS[options.preset].on("cuda" if this_host().num_gpus else None),
        options.others_most, options.strong_most, this_host(),
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in points(study, Path(folder)):
            rows.append(row)
            last = with_efficiency(rows)[-1]
            print(_line(last), flush=True)
            write(options.out, {"points": with_efficiency(rows), "compute_s": options.compute_s, "environment": about})
    return 0


def _line(row: Mapping[str, Any]) -> str:
    """A point in a line."""
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    rate = "-" if row["samples_per_s"] is None else f"{row['samples_per_s']:.0f} samples/s"
    parts = [f"{row['compute']}, {row['kind']}, {row['schedule']} on {row['stages']}: {rate}",
             f"efficiency {share(row['efficiency'])}", f"of the slowest stage {share(row['of_slowest_stage'])}",
             f"planned {share(row['plan_error'])} off"]  # fmt: skip
    if "cpu" in row:
        cpu = row["cpu"]
        parts.append(f"start {row['start_s']:.1f} s, end {row['end_s']:.1f} s")
        if cpu["coordinator"] is not None:
            parts.append(f"cores: coordinator {cpu['coordinator']:.3f}, stages {cpu['stages']:.2f}")
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
