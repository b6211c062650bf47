"""What the mode gated costs: throughput of gated runs against that of ``parallel``, on the same net and data.

    python -m benchmarks.probing --out benchmarks/results/probing.json

All arms are the run of a preset on two stages of one thread each, in turns, with the probe as often and as large as it
is by default: 128 samples behind every 25 batches, which is a tenth more to run forward where batches are of 50, and a
25th where they are of 128. Under ``probe`` every gate is open, so that the probe is all that is added; under ``G1``,
``G2`` and ``G4`` blocks take parts of their steps by the default tau, under G4 most of them none for most of the run.
The figure is the run's own: samples over ``wall_s``, from the moment every stage is ready to the last report. The share
of the time that stages evaluate is that of the probe: nothing else is evaluated but two samples at the end.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.presets import PRESETS
from benchmarks.snapshots import config_of
from benchmarks.wording import share_text, spread_text, table
from pipeline.config import Config, GateConfig, ScheduleConfig
from workers.host.fork_server import warm_up
from workers.run import train

__all__ = ["TARGET", "markdown"]

TARGET = 0.05
"""Of the throughput, that the probe may take at most."""
_PLAIN = "parallel"
_GATES = {
    "probe": GateConfig(form="G1", tau=1e30), "G1": GateConfig(form="G1"), "G2": GateConfig(form="G2"),
    "G4": GateConfig(form="G4"),
}  # fmt: skip
_STEPS = {"mlp-8x1024": 400, "mlp-8x128": 6000}
"""Of a run of some seconds."""
_CASES = (("mlp-8x1024", None), ("mlp-8x128", 128), ("mlp-8x128", None))
"""Presets and batch sizes; None for the preset's own."""


def gated(config: Config, gate: GateConfig) -> Config:
    """The same run in the mode gated."""
    return dataclasses.replace(config, schedule=ScheduleConfig(mode="gated"), gate=gate)


def figures(config: Config) -> dict[str, float]:
    """Throughput of a run, the share of its time that its stages evaluated, the most of them, and its least gate."""
    with tempfile.TemporaryDirectory(prefix="onward-") as place:
        result = train(config, out=Path(place) / "run", data_root=Path(place))
    shares = [stage["eval_s"] / stage["wall_s"] for stage in result["stages"]]
    gates = [block.get("gate", 1.0) for block in result["blocks"]]
    return {"samples_per_s": float(result["train_samples_per_s"]), "eval": max(shares), "gate": min(gates)}


def measured(preset: str, batch_size: int | None, steps: int, rounds: int) -> dict[str, Any]:
    """All arms of a preset in turns. Args: batch_size, None for the preset's own."""
    plain = config_of(preset, steps, every_steps=0)
    each = PRESETS[preset].steps_per_epoch
    if batch_size is not None:
        each = -(-PRESETS[preset].num_samples // batch_size)
        train = dataclasses.replace(plain.train, batch_size=batch_size, epochs=-(-steps // each))
        plain = dataclasses.replace(plain, train=train)
    configs = {_PLAIN: plain, **{name: gated(plain, gate) for name, gate in _GATES.items()}}
    found = take_turns({name: partial(figures, config) for name, config in configs.items()}, rounds)
    rates = {name: [f["samples_per_s"] for f in each] for name, each in found.items()}
    return {
        "steps": plain.train.epochs * each, "samples_per_s": {name: spread(values) for name, values in rates.items()},
        "over parallel": {name: ratio(rates[name], rates[_PLAIN]) for name in _GATES},
        "eval": {name: spread([f["eval"] for f in each]) for name, each in found.items()},
        "least gate": {name: found[name][0]["gate"] for name in _GATES},
    }  # fmt: skip


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a file."""
    rows = [
        [preset, arm, spread_text(of["samples_per_s"][arm]), spread_text(of["over parallel"].get(arm)),
         share_text(of["eval"][arm]["median"])]
        for preset, of in found["presets"].items() for arm in of["samples_per_s"]
    ]  # fmt: skip
    titles = ["preset", "arm", "samples per second", "of the throughput of parallel", "share of the time evaluating"]
    return table(titles, rows, 2)


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line for each arm, writes the file after each preset."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probing", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", action="append", choices=[n for n, p in PRESETS.items() if p.model.name == "mlp"],
                        help=f"may be repeated; default: {', '.join(_STEPS)}")  # fmt: skip
    parser.add_argument("--batch-size", type=int, help="with --preset; default: the preset's own")
    parser.add_argument("--steps", type=int, help="of each run; default: a few seconds' worth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="60 steps, one round: does it run?")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about = environment("benchmarks.probing", arguments, threads=1)
    warm_up("noise")
    presets: dict[str, Any] = {}
    cases = [(preset, options.batch_size) for preset in options.preset] if options.preset else _CASES
    for preset, batch_size in cases:
        steps = 60 if options.quick else options.steps or _STEPS.get(preset, 400)
        name = preset if batch_size is None else f"{preset}, batches of {batch_size}"
        presets[name] = measured(preset, batch_size, steps, 1 if options.quick else options.rounds)
        _tell(name, presets[name])
        write(options.out, {"target": TARGET, "presets": presets, "environment": about})
    return 0


def _tell(preset: str, found: Mapping[str, Any]) -> None:
    for name, over in found["over parallel"].items():
        print(
            f"{preset}, {name}: {over['median']:.3f} times the throughput of parallel ({over['min']:.3f} to "
            f"{over['max']:.3f}), {found['eval'][name]['median']:.2%} of the time evaluating, least gate "
            f"{found['least gate'][name]:.2f}"
        )
    lost = 1 - found["over parallel"]["probe"]["median"]
    print(f"{preset}: the probe takes {lost:.1%} of the throughput, {TARGET:.0%} are allowed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
