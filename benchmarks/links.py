"""Training over two hosts whose link is slower and slower: Onward's own schedule, GPipe, 1F1B and DDP.

    sudo python -m benchmarks.links --preset mlp-8x1024 --out benchmarks/results/links-mlp-8x1024.json
    sudo python -m benchmarks.links --preset lm-s --out benchmarks/results/links-lm-s.json

The hosts are network namespaces of this machine with a switch between them, each link shaped in both directions by
``tc tbf``, so it needs root and iproute2, and says so. Every arm is two processes of one thread, one on each host, with
the same weights, samples and batch; both cores are there for all of them, so that what differs is the link. ``lost`` is
the share of its throughput over the unshaped link that an arm loses, round by round.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.arms import catalogue
from benchmarks.arms.catalogue import ArmHost
from benchmarks.arms.job import ArmJob
from benchmarks.arms.launch import run
from benchmarks.arms.turns import ThroughputArm, ThroughputSettings
from benchmarks.link_tables import ARMS, markdown
from benchmarks.presets import PRESETS, Preset
from pipeline.records.files import jsonable
from pipeline.resolve import resolve
from tests.support.hosts import hosts, why_not
from workers.edges import batch_bytes
from workers.planner.links import Link

__all__ = ["RATES", "exchanges_s", "main", "measure", "message_bytes"]

RATES = {
    "unlimited": None, "10 Gbit/s": 10e9, "1 Gbit/s": 1e9, "250 Mbit/s": 250e6, "100 Mbit/s": 100e6, "10 Mbit/s": 10e6,
}  # fmt: skip
"""Of each link, in bits per second."""
_EXCHANGES = 9
"""Two of them to spare."""


def message_bytes(preset: Preset, partition: Sequence[int]) -> dict[str, int]:
    """What a step's activations and their labels are on the link between two stages, for each of Onward's own arms."""
    found = {}
    for name, (arm, wire) in ARMS.items():
        if arm == "onward-2":
            resolved = resolve(preset.config(precision=preset.precision, partition=partition, wire=wire), Path())
            found[name] = preset.batch_size * batch_bytes(resolved, partition[0])
    return found


def measure(
    preset: Preset, settings: ThroughputSettings, rates: Sequence[str], names: Sequence[str] = tuple(ARMS)
) -> dict[str, Any]:
    """The arms ``names`` over every link, all of them in turns.

    Raises:
        RuntimeError: the blocks' costs could not be measured.
    """
    template = ArmJob(module="", preset=preset, precision=preset.precision, seconds=settings.seconds)
    costs = run(catalogue.costs_job(template), 4 * settings.limit_s)
    if costs.status != "ok":
        raise RuntimeError(f"cannot measure what the blocks cost ({costs.status}: {costs.note}). Raise --limit.")
    jobs = catalogue.jobs(template, costs.table, ArmHost(cores=2, num_gpus=0))
    arms: dict[str, dict[str, ThroughputArm]] = {rate: {} for rate in rates}
    resolved = resolve(preset.config(precision=preset.precision), Path(tempfile.gettempdir()))
    num_bytes = 4 * sum(shape.num_parameters for shape in resolved.shapes)
    with hosts(2) as found:
        for rate in rates:
            for name, (arm, wire) in ((name, ARMS[name]) for name in names):
                job = jobs[arm]
                placed = replace(job, hosts=tuple(found), wire=wire) if isinstance(job, ArmJob) else job
                longer = replace(settings, limit_s=settings.limit_s + exchanges_s(RATES[rate], num_bytes))
                arms[rate][name] = ThroughputArm(placed, longer)

        def turn(rate: str, name: str) -> float:
            for host in found:
                host.shape(RATES[rate])
            figure = arms[rate][name]()
            print(f"{rate}, {name}: {arms[rate][name].status} {figure:.4g}", file=sys.stderr, flush=True)
            return figure

        turns: dict[str, Callable[[], float]] = {
            f"{rate}, {name}": partial(turn, rate, name) for rate in rates for name in names
        }
        harness.take_turns(turns, settings.rounds)
    return {
        "preset": preset.name, "batch_size": preset.batch_size, "rounds": settings.rounds, "seconds": settings.seconds,
        "links": {rate: {name: arm.entry() for name, arm in found.items()} for rate, found in arms.items()},
        "message_bytes": message_bytes(preset, two.partition) if isinstance(two := jobs["onward-2"], ArmJob) else {},
        "block_seconds": costs.table,
    }  # fmt: skip


def exchanges_s(bits_per_s: float | None, num_bytes: int) -> float:
    """Seconds more that a run may take over a link: those of the parameters' first exchange and of the gradients' in
    the fewest steps that are timed.

    Args:
        bits_per_s: of the link; None: without a limit.
        num_bytes: of all parameters.
    """
    return 0.0 if bits_per_s is None else _EXCHANGES * num_bytes / Link(bits_per_s).bytes_per_s


def main(arguments: Sequence[str]) -> int:
    """Measures a preset over all links."""
    options = _parser().parse_args(arguments)
    reason = why_not()
    if reason is not None:
        _parser().error(f"no hosts can be made here ({reason}). Run it as root, with iproute2 installed.")
    settings = ThroughputSettings(
        rounds=1 if options.quick else options.rounds, seconds=0.5 if options.quick else options.seconds,
        limit_s=options.limit, bubble_steps=20, precision=PRESETS[options.preset].precision,
    )  # fmt: skip
    wanted = list(filter(None, options.links.split(","))) or list(RATES)
    if unknown := [rate for rate in wanted if rate not in RATES]:
        _parser().error(f"unknown link (given: {unknown[0]!r}, expected: {', '.join(RATES)}). Correct it.")
    arms = list(filter(None, options.arms.split(","))) or list(ARMS)
    if unknown := [name for name in arms if name not in ARMS]:
        _parser().error(f"unknown arm (given: {unknown[0]!r}, expected: {', '.join(ARMS)}). Correct it.")
    about = harness.environment("benchmarks.links", arguments, load_before=os.getloadavg())
    found = measure(PRESETS[options.preset], settings, wanted, arms)
    print(markdown(found))
    harness.write(options.out, jsonable({**found, "environment": {**about, "load_after": os.getloadavg()}}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.links", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="mlp-8x1024")
    parser.add_argument("--links", default="", metavar="A,B", help=f"only these of: {', '.join(RATES)}")
    parser.add_argument("--arms", default="", metavar="A,B", help=f"only these of: {', '.join(ARMS)}")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every arm over every link")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure for, in each turn")
    patience = "seconds after which a run is given up, beside those of exchanges over the link"
    parser.add_argument("--limit", type=float, default=120.0, metavar="S", help=patience)
    parser.add_argument("--quick", action="store_true", help="1 round of 0.5 s: to see that it runs")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    harness.leave_on_sigterm()
    sys.exit(main(sys.argv[1:]))
