"""What loggers and hooks cost: throughput of a run that is told to them, against one that nobody listens to.

    python -m benchmarks.listening --out benchmarks/results/listening.json

All arms are the run of a preset on two stages, in turns: nobody listens; the loggers that ``--log`` names and three
hooks that do nothing; and hooks that sleep for a tenth of a second whenever they are called. The figure is the run's
own: samples over ``wall_s``, from the moment every stage is ready to the last report. Machines vary by more than what
is looked for, so there is a second one: the processor time of the process that is listening, beyond that of the same
process with nobody to tell, as a share of the wall time of the stages.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.presets import PRESETS
from benchmarks.snapshots import config_of
from pipeline.config import Config
from pipeline.records.view import Silent
from workers.host.fork_server import warm_up
from workers.listening.hooks import Hooks
from workers.listening.listened import listened
from workers.listening.logger import loggers_named
from workers.run import train

SLEEP_S = 0.1
_MORE = "more cpu, of the wall time of the stages"


def figures(config: Config, logs: Sequence[str], hooks: Hooks) -> dict[str, float]:
    """Throughput of a run, and seconds of the processor that this process took for it, start and end included."""
    with tempfile.TemporaryDirectory(prefix="onward-") as place:
        make_view = listened(lambda *_: Silent(), loggers_named(logs), hooks)
        before = time.process_time()
        result = train(config, out=Path(place) / "run", data_root=Path(place), make_view=make_view)
        cpu_s = time.process_time() - before
    return {"samples_per_s": float(result["train_samples_per_s"]), "cpu_s": cpu_s, "wall_s": float(result["wall_s"])}


def _nothing(row: Mapping[str, Any]) -> None:
    """A hook."""


def _sleeping(row: Mapping[str, Any]) -> None:
    """A hook that is slow, and computes nothing."""
    time.sleep(SLEEP_S)


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line for each arm, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listening", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=[n for n, p in PRESETS.items() if p.model.name == "mlp"],
                        default="mlp-8x1024")  # fmt: skip
    parser.add_argument("--steps", type=int, default=400, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--log", action="append", metavar="NAMES", help="default: csv")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about, logs = environment("benchmarks.listening", arguments, threads=1), options.log or ["csv"]
    warm_up("noise")
    config = config_of(options.preset, options.steps, every_steps=0)
    arms = {
        "nobody": partial(figures, config, (), Hooks()),
        "listening": partial(figures, config, logs, Hooks(_nothing, _nothing, _nothing)),
        "sleeping": partial(figures, config, (), Hooks(_sleeping, _sleeping, _sleeping)),
    }
    found = take_turns(arms, options.rounds)
    rates = {name: [f["samples_per_s"] for f in each] for name, each in found.items()}
    stages_s = sorted(f["wall_s"] for f in found["nobody"])[options.rounds // 2] * config.run.stages
    table: dict[str, Any] = {
        "preset": options.preset, "steps": options.steps, "rounds": options.rounds, "log": logs, "sleep_s": SLEEP_S,
        "samples_per_s": {name: spread(values) for name, values in rates.items()},
        "cpu_s": {name: spread([f["cpu_s"] for f in each]) for name, each in found.items()},
        "over nobody": {name: ratio(rates[name], rates["nobody"]) for name in ("listening", "sleeping")},
    }  # fmt: skip
    usual = table["cpu_s"]["nobody"]["median"]
    table[_MORE] = {
        name: (table["cpu_s"][name]["median"] - usual) / stages_s for name in ("listening", "sleeping")
    }
    for name, found_ratio in table["over nobody"].items():
        print(
            f"{options.preset}, {name}: {found_ratio['median']:.3f} times the throughput of a run that nobody hears; "
            f"{table[_MORE][name]:.2%} more of the processor"
        )
    write(options.out, {**table, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
