"""The planner against real runs: every row of a plan is run, and compared with what it said.

    python -m benchmarks.plan --out benchmarks/results/plan.json
    python -m benchmarks.plan --preset mlp-8x128 --stages 1,2 --seconds 2

Runs of this machine alone. A link is emulated by its latency (``--delay``), which every message then has; rates of
links need shaped hosts. What is compared is the steady rate, and of each stage the memory by kind.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, leave_on_sigterm, write
from benchmarks.presets import PRESETS, Preset
from benchmarks.watched_run import epochs_of, watch_run
from pipeline.config import ChaosConfig, Config
from workers.placement import this_host
from workers.planner.command import placed, plan_rows
from workers.planner.links import Question

__all__ = ["compared", "errors", "main"]

_MEMORY = ("parameter_bytes", "optimizer_bytes", "held_bytes", "queue_bytes")


def planned_config(preset: Preset, delay_s: float) -> Config:
    """The run that is planned, its stages left open."""
    config = preset.config(precision=preset.precision)
    run = dataclasses.replace(config.run, stages="auto", partition="measured")
    return dataclasses.replace(config, run=run, chaos=ChaosConfig(delay_s=delay_s))


def compared(preset: Preset, stages: Sequence[int], delay_s: float, seconds: float) -> Iterator[dict[str, Any]]:
    """A row for every run of a preset that can be compared; data parallelism is none of Onward's modes."""
    config = planned_config(preset, delay_s)
    with tempfile.TemporaryDirectory() as folder:
        rows = plan_rows(config, Question(tuple(stages)), this_host(), Path(folder), fresh=True)
        for row in rows:
            if row["schedule"] == "ddp":
                continue
            real = Config.from_dict(placed(dataclasses.replace(config), {**row, "least_depth": None}))
            warm, epochs = epochs_of(real, preset.steps_per_epoch, row["step_s"], seconds)
            real = dataclasses.replace(
                real, train=dataclasses.replace(real.train, epochs=epochs),
                run=dataclasses.replace(real.run, threads=row["threads"], predict=False),
            )  # fmt: skip
            found = watch_run(real, warm, preset.num_samples, Path(folder))
            yield {
                "preset": preset.name, "schedule": row["schedule"], "stages": row["stages"], "delay_s": delay_s,
                "partition": row["partition"], "bottleneck": row["bottleneck"],
                "predicted": row["samples_per_s"], "measured": found["samples_per_s"],
                "error": row["samples_per_s"] / found["samples_per_s"] - 1,
                "memory_error": _memory_error(row["memory"], found["memory"]),
            }  # fmt: skip


def _memory_error(planned: Sequence[dict[str, int]], found: Sequence[dict[str, int]]) -> float:
    """The largest relative error of a stage's memory, all kinds together."""
    sums = [(sum(p[k] for k in _MEMORY), sum(f[k] for k in _MEMORY)) for p, f in zip(planned, found, strict=True)]
    return max((p / f - 1 for p, f in sums if f > 0), key=abs, default=0.0)


def errors(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median and worst absolute error of the rates, and the worst of the memories."""
    found = [abs(row["error"]) for row in rows]
    return {
        "runs": len(rows), "median": statistics.median(found), "worst": max(found),
        "memory_worst": max(abs(row["memory_error"]) for row in rows),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Plans, runs, compares, prints a line for each run, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.partition("\n")[0])
    on_cpu = [name for name, preset in PRESETS.items() if preset.device == "cpu"]
    parser.add_argument("--preset", action="append", choices=on_cpu)
    parser.add_argument("--stages", default="1,2,4", help="numbers of stages")
    parser.add_argument("--delay", type=float, action="append", metavar="S", help="latencies; default: 0")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured of each run")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    about = environment("benchmarks.plan", arguments)
    stages, rows = [int(n) for n in options.stages.split(",")], []
    for name in options.preset or ["mlp-8x1024", "mlp-8x128", "vgg8b-quarter"]:
        for delay_s in options.delay or [0.0]:
            for row in compared(PRESETS[name], stages, delay_s, options.seconds):
                rows.append(row)
                print(f"{name}, {row['schedule']}, {row['stages']} stages, latency {delay_s:g} s: planned "
                      f"{row['predicted']:.0f}, measured {row['measured']:.0f} samples/s, {row['error']:+.1%}; "
                      f"memory {row['memory_error']:+.1%}", flush=True)  # fmt: skip
    summary = errors(rows)
    print(f"{summary['runs']} runs: median error {summary['median']:.1%}, worst {summary['worst']:.1%}")
    write(options.out, {"rows": rows, "errors": summary, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
