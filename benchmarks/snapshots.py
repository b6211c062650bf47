"""What snapshots cost: throughput of a run that is written down every so many steps, against one that is not.

    python -m benchmarks.snapshots --out benchmarks/results/snapshots.json

Both arms are the run of a preset on two stages, in turns. The figure is the run's own: samples over ``wall_s``, from
the moment every stage is ready to the last report. Weights and Adam's state are written, three numbers a weight.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.presets import PRESETS
from pipeline.config import Config, SnapshotConfig
from workers.host.fork_server import warm_up
from workers.run import train


def config_of(preset: str, steps: int, every_steps: int) -> Config:
    """A preset's run of so many steps on two stages."""
    work = PRESETS[preset]
    half = (work.model.options["depth"] + 1) // 2
    config = work.config(
        precision=work.precision, partition=(half, work.model.options["depth"] + 1 - half),
        epochs=-(-steps // work.steps_per_epoch),
    )  # fmt: skip
    return dataclasses.replace(config, snapshot=SnapshotConfig(every_steps=every_steps))


def figures(config: Config, folder: Path | None) -> dict[str, float]:
    """Throughput of a run, the snapshots that it has left, and their bytes."""
    with tempfile.TemporaryDirectory(prefix="onward-", dir=folder) as place:
        out = Path(place) / "run"
        result = train(config, out=out, data_root=Path(place))
        rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
        size = sum(path.stat().st_size for path in out.glob("snapshots/step-*/block-*")) / len(
            list(out.glob("snapshots/step-*"))
        )
    taken = sum(row["event"] == "snapshot" for row in rows)
    return {"samples_per_s": float(result["train_samples_per_s"]), "snapshots": taken, "bytes": size}


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=[n for n, p in PRESETS.items() if p.model.name == "mlp"],
                        default="mlp-8x1024")  # fmt: skip
    parser.add_argument("--steps", type=int, default=600, help="of each run")
    parser.add_argument("--every", type=int, default=50, help="steps between snapshots")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="on the disk that is measured; default: TMPDIR")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about = environment("benchmarks.snapshots", arguments, threads=1)
    warm_up("noise")
    arms = {
        name: partial(figures, config_of(options.preset, options.steps, every), options.folder)
        for name, every in (("without", 0), ("with", options.every))
    }  # fmt: skip
    found = take_turns(arms, options.rounds)
    rates = {name: [f["samples_per_s"] for f in each] for name, each in found.items()}
    table: dict[str, Any] = {
        "preset": options.preset, "steps": options.steps, "every_steps": options.every, "rounds": options.rounds,
        "samples_per_s": {name: spread(values) for name, values in rates.items()},
        "with/without": ratio(rates["with"], rates["without"]),
        "snapshots": found["with"][0]["snapshots"], "bytes": found["with"][0]["bytes"],
    }  # fmt: skip
    print(f"{options.preset}, a snapshot of {table['bytes'] / 2**20:.0f} MiB every {options.every} steps: "
          f"{table['with/without']['median']:.3f} times the throughput")  # fmt: skip
    write(options.out, {**table, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
