"""Throughput of Onward and of its alternatives, in samples per second, measured in turns.

    python -m benchmarks.throughput --preset mlp-8x1024 --out benchmarks/results/throughput-mlp-8x1024.json

Every arm trains the same weights on the same samples, with fused Adam, the same precision of products and the same
allocator. Each run is a fresh process tree with a time limit; its start and its warm-up are not timed.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks import harness
from benchmarks.arms import catalogue
from benchmarks.arms.catalogue import ArmHost
from benchmarks.arms.job import ArmJob
from benchmarks.arms.launch import run
from benchmarks.arms.turns import ThroughputArm, ThroughputSettings
from benchmarks.presets import PRESETS, Precision, Preset, backprop_flop, local_flop
from pipeline.records.files import jsonable
from pipeline.resolve import resolve
from workers.placement import this_host

__all__ = ["main", "markdown", "ratios", "run_preset", "table"]

OURS = "onward-2"
TORCH = ("torch-gpipe", "torch-1f1b")


def run_preset(preset: Preset, settings: ThroughputSettings, host: ArmHost) -> dict[str, Any]:
    """Measures a preset's arms in turns, and puts them side by side.

    Raises:
        RuntimeError: the blocks' costs could not be measured, without which nothing can be cut.
        ValueError: no arm has one of the names given.
    """
    template = ArmJob(
        module="", preset=preset, precision=settings.precision, seconds=settings.seconds,
        keeps_memory=settings.keeps_memory,
    )  # fmt: skip
    measured = run(catalogue.costs_job(template), 4 * settings.limit_s)
    if measured.status != "ok":
        raise RuntimeError(
            f"cannot measure what the blocks cost (preset: {preset.name}, {measured.status}: {measured.note}). "
            "Fix that error, or raise --limit."
        )
    jobs = catalogue.jobs(template, measured.table, host)
    arms = {name: ThroughputArm(jobs[name], settings) for name in catalogue.selected(list(jobs), settings.arms)}
    matmul = ThroughputArm(catalogue.matmul_job(template, host), settings, "flop_per_s")
    turns = {name: _reporting(name, arm) for name, arm in [*arms.items(), ("matmul", matmul)]}
    harness.take_turns(turns, settings.rounds)
    return {**table(preset, settings, arms, matmul), "block_seconds": measured.table}


def _reporting(name: str, arm: ThroughputArm) -> Callable[[], float]:
    """``arm``, with a line on stderr after each turn: a preset takes minutes."""

    def turn() -> float:
        figure = arm()
        print(f"{name}: {arm.status} {figure:.4g}", file=sys.stderr, flush=True)
        return figure

    return turn


def table(
    preset: Preset, settings: ThroughputSettings, arms: Mapping[str, ThroughputArm], matmul: ThroughputArm
) -> dict[str, Any]:
    """The JSON file, but for the environment."""
    resolved = resolve(preset.config(precision=settings.precision), Path(tempfile.gettempdir()))
    entries = {name: arm.entry() for name, arm in arms.items()}
    for group in TORCH:
        members = {n: e for n, e in entries.items() if n.startswith(f"{group}-")}
        if members:
            best = max(members, key=lambda n: members[n]["samples_per_s"] or 0.0)
            entries[group] = {**members[best], "best": best}
    flop = local_flop(resolved)
    ours = [rate and rate * flop for rate in entries[OURS]["all"]] if OURS in entries else []
    fraction = _ratio(ours, matmul.all)
    return {
        "preset": preset.name, "arms": entries, **ratios(entries),
        "matmul_fraction": fraction and fraction["median"], "matmul_fraction_all": fraction, "matmul": matmul.entry(),
        "flop_per_sample": {"local": flop, "backprop": backprop_flop(resolved)},
        "batch_size": preset.batch_size, "num_blocks": resolved.num_blocks, "device": preset.device,
        "rounds": settings.rounds, "seconds": settings.seconds, "about": catalogue.ABOUT,
    }  # fmt: skip


def ratios(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Our two stages against every other arm, round by round: ``ratios``, the medians that count, and ``ratios_all``.

    Args:
        entries: of the arms, torch-gpipe and torch-1f1b being the best of theirs.
    """
    ours = entries[OURS]["all"] if entries.get(OURS, {}).get("samples_per_s") else []
    spreads = {
        name: _ratio(ours, entry["all"]) if entry["samples_per_s"] is not None else None
        for name, entry in entries.items() if name != OURS
    }  # fmt: skip
    running = [n for n in TORCH if entries.get(n, {}).get("samples_per_s")]
    best = max(running, key=lambda n: float(entries[n]["samples_per_s"]), default="")
    chosen = {"torch_pipelining": best, "backprop": "backprop", "ddp": "ddp"}
    medians = {name: (spreads.get(arm) or {}).get("median") for name, arm in chosen.items()}
    return {"ratios": medians, "ratios_all": spreads}


def _ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> dict[str, Any] | None:
    """The spread of the rounds in which both have a figure."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None]
    return harness.ratio([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None


def markdown(found: Mapping[str, Any]) -> str:
    """A table for people."""
    lines = [f"| {found['preset']} | samples per second | least - most | {OURS} is faster by | |",
             "| --- | ---: | ---: | ---: | --- |"]  # fmt: skip
    for name, entry in found["arms"].items():
        against = found["ratios_all"].get(name)
        times = f"{against['median']:.2f} ({against['min']:.2f} - {against['max']:.2f})" if against else ""
        rate = entry["samples_per_s"]
        figures = f"{rate:.0f} | {entry['min']:.0f} - {entry['max']:.0f}" if rate else f"{entry['status']} | "
        lines.append(f"| {name} | {figures} | {times} | {_remark(entry)} |")
    matmul, fraction = found["matmul"]["flop_per_s"], found["matmul_fraction"]
    lines.append("")
    if matmul:
        reached = f"; {OURS} reaches {100 * fraction:.0f} % of it" if fraction else ""
        lines.append(f"Matrix products: {matmul / 1e9:.0f} GFLOP/s{reached}.")
    return "\n".join(lines)


def _remark(entry: Mapping[str, Any]) -> str:
    """Last column: the best of a group, notes, efficiency and bubble."""
    parts = [entry[k] for k in ("best", "note") if k in entry]
    parts += [f"{k} {100 * entry[k]:.1f} %" for k in ("efficiency", "bubble") if k in entry]
    return ", ".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Measures a preset."""
    options = _parser().parse_args(arguments)
    preset: Preset = PRESETS[options.preset].on(options.device)
    here = this_host()
    if preset.device == "cuda" and not here.num_gpus:
        _parser().error(f"there is no CUDA device here (preset: {preset.name}, device: cuda). Pass --device cpu.")
    settings = ThroughputSettings(
        rounds=2 if options.quick else options.rounds, seconds=0.5 if options.quick else options.seconds,
        limit_s=options.limit, bubble_steps=20 if options.quick else 200,
        precision=options.precision or preset.precision, keeps_memory=options.allocator == "keep",
        arms=tuple(filter(None, options.arms.split(","))),
    )  # fmt: skip
    about = harness.environment(
        "benchmarks.throughput", arguments, matmul_precision=settings.precision, allocator=options.allocator,
        load_before=os.getloadavg(),
    )  # fmt: skip
    try:
        found = run_preset(preset, settings, ArmHost(here.cores, here.num_gpus))
    except ValueError as error:
        _parser().error(str(error))
    print(markdown(found))
    harness.write(options.out, jsonable({**found, "environment": {**about, "load_after": os.getloadavg()}}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--rounds", type=int, default=5, help="turns of every arm")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure for, in each turn")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="seconds after which a run is a hang")
    parser.add_argument("--arms", default="", metavar="A,B", help="only these; torch-gpipe is all of torch-gpipe-M")
    parser.add_argument("--precision", choices=get_args(Precision), help="of products, in all arms; else the preset's")
    parser.add_argument("--allocator", choices=("keep", "system"), default="keep",
                        help="keep: no arm hands freed memory back; system: arms that are not ours do")  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "cuda"), help="the preset's own without")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.5 s: to see that it runs")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    harness.leave_on_sigterm()
    sys.exit(main(sys.argv[1:]))
