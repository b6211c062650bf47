"""The planner against real runs: each cell is measured and planned, then run at once, and both are compared.

    python -m benchmarks.plan --out benchmarks/results/plan.json             # as root also over links with a rate
    python -m benchmarks.plan --preset mlp-8x128 --stages 1 --stages 2 --starts 1

The profile that a prediction is made from is taken anew for every run, just before it, and the next cell's follows: a
machine that gets slower or faster meanwhile does so for both. Looks at its speed around both (``benchmarks.probe``)
stand beside each error, and correct nothing. A run is started three times, and the median of its rates counts: the same
run is faster or slower from start to start by several per cent, in some ways of training by a fifth. A plan tries for a
moment what this machine can run as it is planned; how far off the simulation alone would have been is told, too. What
is compared is the steady rate, and of each stage the memory by kind. A link has a latency (``chaos.delay_s``) that
every message then has, or a rate between two network namespaces. How long a plan takes, with nothing known and with
everything, is that of the command.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, leave_on_sigterm, write
from benchmarks.linked_run import linked_run
from benchmarks.plan_cells import Cell, cells
from benchmarks.presets import PRESETS, Preset
from benchmarks.probe import Probe, drift
from benchmarks.watched_run import epochs_of, watch_run
from pipeline.config import ChaosConfig, Config
from pipeline.config.toml_text import to_toml
from tests.support.hosts import why_not
from workers.placement import this_host
from workers.planner.command import placed, plan_rows
from workers.planner.links import Link, Question

__all__ = ["compared", "errors", "main", "own_cache", "planned_config"]

_MEMORY = ("parameter_bytes", "optimizer_bytes", "held_bytes", "queue_bytes")
_LIMITED = 0.95
"""Of the rate without the link: what is predicted to be slower is limited by it."""
_LOOK_S = 2.0
_EPOCH_S, _LEAST_STEPS = 0.4, 4
"""About the length of an epoch, and its fewest steps: rates are those of whole epochs."""
_PLANNED_STAGES = "1,2,4"
_ROOT = Path(__file__).resolve().parents[1]


def planned_config(preset: Preset, delay_s: float) -> Config:
    """The run that is planned, its stages left open."""
    config = preset.config(precision=preset.precision)
    run = dataclasses.replace(config.run, stages="auto", partition="measured", predict=True)
    return dataclasses.replace(config, run=run, chaos=ChaosConfig(delay_s=delay_s))


def _planned(cell: Cell, folder: Path, *, fresh: bool, free: bool = False) -> dict[str, Any]:
    """The row of a cell; ``free``: as if its link were one without a limit, simulated alone."""
    link = None if cell.mbit_per_s is None or free else Link(cell.mbit_per_s * 1e6)
    question = Question((cell.stages,), link=link, replicas=cell.replicas or (1,))
    config = planned_config(PRESETS[cell.preset], 0.0 if free else cell.delay_s)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, predict=not free))
    if cell.mbit_per_s is not None:  # both hosts are this one, with its cores, and messages take the network
        config = dataclasses.replace(config, transport=dataclasses.replace(config.transport, name="process_group"))
    return plan_rows(config, question, this_host(), folder, fresh=fresh, ways=(cell.schedule,))[-1]


def _run(cell: Cell, row: Mapping[str, Any], seconds: float, folder: Path) -> dict[str, Any]:
    """The real run of a row: ``samples_per_s`` and ``memory`` of each stage."""
    preset = _shortened(PRESETS[cell.preset], row["step_s"])
    if cell.mbit_per_s is not None:
        return linked_run(preset, row, cell.mbit_per_s, seconds)
    config = planned_config(preset, cell.delay_s)
    real = Config.from_dict(placed(config, {**row, "least_depth": None}))
    warm, epochs = epochs_of(real, preset.steps_per_epoch, row["step_s"], seconds)
    real = dataclasses.replace(
        real, train=dataclasses.replace(real.train, epochs=epochs),
        run=dataclasses.replace(real.run, threads=row["threads"], predict=False),
    )  # fmt: skip
    return watch_run(real, warm, preset.num_samples, folder, look_s=_LOOK_S)


def _shortened(preset: Preset, step_s: float) -> Preset:
    """The preset with fewer samples where its epochs would take long."""
    steps = min(preset.steps_per_epoch, max(_LEAST_STEPS, round(_EPOCH_S / step_s)))
    return dataclasses.replace(preset, num_samples=steps * preset.batch_size)


def compared(
    wanted: Sequence[Cell], rounds: int, seconds: float, probe: Probe, starts: int = 1
) -> Iterator[dict[str, Any]]:
    """A row for every run: profile and plan of the cell, the run, and so on with the next cell.

    Args:
        wanted: the cells, in the order of a round; every second round is in reverse order.
        rounds: runs of each cell.
        seconds: measured of each run.
        probe: of the machine's speed.
        starts: of each run, of which the median counts.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = probe.look()
        for index in range(rounds):
            for cell in wanted if index % 2 == 0 else list(reversed(wanted)):
                begun = time.perf_counter()
                row = _planned(cell, folder, fresh=True)
                planning_s, between = time.perf_counter() - begun, probe.look()
                found = [_run(cell, row, seconds, folder) for _ in range(starts)]
                after, rates = probe.look(), [each["samples_per_s"] for each in found]
                measured = statistics.median(rates)
                yield {
                    **dataclasses.asdict(cell), "round": index, "partition": row["partition"],
                    "bottleneck": row["bottleneck"], "predicted": row["samples_per_s"],
                    "measured": measured, "starts": rates, "error": row["samples_per_s"] / measured - 1,
                    "rehearsed": row["rehearsed"], "simulated_error": _simulated_error(row, measured),
                    "drift": drift(before, between, after), "flop_per_s": [before, between, after],
                    "memory_error": _memory_error(cell, row, found[0]["memory"]),
                    "link_limited": _is_limited(cell, row, folder), "planning_s": planning_s,
                }  # fmt: skip
                before = after


def _is_limited(cell: Cell, row: Mapping[str, Any], folder: Path) -> bool:
    """The link makes the plan slower; without it is planned from the same profiles."""
    if cell.delay_s == 0.0 and cell.mbit_per_s is None:
        return False
    free = _planned(cell, folder, fresh=False, free=True)
    return bool(row["simulated_step_s"] > free["simulated_step_s"] / _LIMITED)  # what was tried has noise of its own


def _simulated_error(row: Mapping[str, Any], measured: float) -> float:
    """Of the simulation alone, where the plan has tried the case for a moment, too."""
    return float(row["samples_per_s"] * row["step_s"] / row["simulated_step_s"] / measured - 1)


def _memory_error(cell: Cell, row: Mapping[str, Any], found: Sequence[Mapping[str, int]]) -> float:
    """The largest relative error of a process's memory, all kinds together; each replica has that of its stage.

    Queues between hosts are left out: a run tells what was in them at most, a plan what there is room for.
    """
    kinds = _MEMORY if cell.mbit_per_s is None else tuple(kind for kind in _MEMORY if kind != "queue_bytes")
    planned = [stage for stage, count in zip(row["memory"], row["replicas"], strict=True) for _ in range(count)]
    sums = [(sum(p[k] for k in kinds), sum(f[k] for k in kinds)) for p, f in zip(planned, found, strict=True)]
    return max((p / f - 1 for p, f in sums if f > 0), key=abs, default=0.0)


def errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median and worst absolute error of the rates, and the worst of the memories; of all runs, then by group."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        names = [row["preset"], row["schedule"], f"{row['stages']} stages"]
        names += ["limited by the link"] if row.get("link_limited") else []
        names += ["replicas"] if row.get("replicas") else []
        names += ["tried for a moment" if row["rehearsed"] else "simulated alone"]
        for name in names:
            groups.setdefault(name, []).append(row)
        if row["rehearsed"]:
            groups.setdefault("the tried ones, simulated", []).append({**row, "error": row["simulated_error"]})
    return {**_errors(rows), "groups": {name: _errors(found) for name, found in groups.items()}}


def _errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of one group."""
    found = [abs(row["error"]) for row in rows]
    return {
        "runs": len(rows), "median": statistics.median(found), "worst": max(found),
        "memory_worst": max(abs(row["memory_error"]) for row in rows),
    }  # fmt: skip


def planning_seconds(preset: Preset) -> dict[str, float]:
    """Seconds of the command ``--plan`` with an empty cost cache, then once more."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "run.toml"
        file.write_text(to_toml(planned_config(preset, 0.0).to_dict()), encoding="utf8")
        command = [sys.executable, str(_ROOT / "launch.py"), "--plan", "--config", str(file), "--stages",
                   _PLANNED_STAGES, "--out", str(folder / "out"), "--data-root", name]  # fmt: skip
        found = []
        for _ in range(2):
            begun = time.perf_counter()
            subprocess.run(
                command, cwd=_ROOT, check=True, timeout=600, stdout=subprocess.DEVNULL,
                env={**os.environ, "ONWARD_CACHE": name},
            )  # fmt: skip
            found.append(time.perf_counter() - begun)
    return {"cold_s": found[0], "cached_s": found[1]}


@contextmanager
def own_cache() -> Iterator[None]:
    """A cost cache of its own, empty: what others have measured at another time is not believed."""
    before = os.environ.get("ONWARD_CACHE")
    with tempfile.TemporaryDirectory() as name:
        os.environ["ONWARD_CACHE"] = name
        try:
            yield
        finally:
            del os.environ["ONWARD_CACHE"]
            if before is not None:
                os.environ["ONWARD_CACHE"] = before


def _line(row: Mapping[str, Any]) -> str:
    """A run in a line."""
    name = Cell(**{field.name: row[field.name] for field in dataclasses.fields(Cell)}).name
    return (f"{name}: planned {row['predicted']:.0f}, measured {row['measured']:.0f} samples/s, {row['error']:+.1%} "
            f"(machine {row['drift']:+.1%}); memory {row['memory_error']:+.1%}")  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__.partition("\n")[0])
    every = cells((), (), over_hosts=True)
    presets, schedules = [*dict.fromkeys(c.preset for c in every)], [*dict.fromkeys(c.schedule for c in every)]
    parser.add_argument("--preset", action="append", choices=presets, help="default: all that have cells")
    parser.add_argument("--stages", type=int, action="append", metavar="N", help="only cells of so many stages")
    parser.add_argument("--schedule", action="append", choices=schedules, help="only cells of these schedules")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each cell")
    parser.add_argument("--starts", type=int, default=3, help="of each run, of which the median counts")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured of each start")
    parser.add_argument("--no-times", action="store_true", help="do not measure how long a plan takes")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Plans, runs, compares, prints a line for each run, writes the file after each."""
    options = _parser().parse_args(arguments)
    leave_on_sigterm()
    about = environment("benchmarks.plan", arguments, load_before=os.getloadavg())
    reason = why_not()
    if reason is not None:
        print(f"links with a rate are left out: {reason}", flush=True)
    wanted = [cell for cell in cells(options.preset or (), options.stages or (), over_hosts=reason is None)
              if not options.schedule or cell.schedule in options.schedule]  # fmt: skip
    if not wanted:
        _parser().error(
            f"no cell has all of that (given: presets {options.preset or 'all'}, stages {options.stages or 'all'}, "
            f"schedules {options.schedule or 'all'}; expected: what a cell of docs/scaling.md has). Name fewer of them."
        )
    rows: list[dict[str, Any]] = []
    times: dict[str, dict[str, float]] = {}
    with own_cache():
        for row in compared(wanted, options.rounds, options.seconds, Probe(this_host().cores), options.starts):
            rows.append(row)
            print(_line(row), flush=True)
            write(options.out, {"rows": rows, "errors": errors(rows), "planning": times, "environment": about})
    for name in [] if options.no_times else dict.fromkeys(cell.preset for cell in wanted):
        times[name] = planning_seconds(PRESETS[name])
        print(f"{name}: a plan takes {times[name]['cold_s']:.1f} s, then {times[name]['cached_s']:.1f} s", flush=True)
    summary = errors(rows)
    for name, found in [("all", summary), *summary["groups"].items()]:
        print(f"{name}, {found['runs']} runs: median error {found['median']:.1%}, worst {found['worst']:.1%}")
    about = {**about, "load_after": os.getloadavg()}
    write(options.out, {"rows": rows, "errors": summary, "planning": times, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
