"""Time of training one block after another, with and without the cache of frozen outputs.

    python -m benchmarks.sequential --out benchmarks/results/sequential.json

Networks of 4, 8 and 16 equal hidden blocks and an output block, each block trained for the same number of epochs. With
the cache a block costs the same at any depth, so the time is linear in the number of blocks; without it, every epoch
of block k runs all frozen blocks below it forward, so the time has a quadratic part. The time is a run's ``wall_s``:
from the moment every stage is ready, evaluation included.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, ratio, spread, take_turns, write
from pipeline.config import Config
from workers.host.fork_server import warm_up
from workers.run import train

CACHES = ("memory", "off")
EPOCHS = 3
"""Epochs of every block."""


def config_of(blocks: int, cache: str, stages: int, size: dict[str, int]) -> Config:
    """``blocks`` hidden blocks and the output block, linear decoders, a fixed number of epochs per block.

    Losses are compared over ``patience`` epochs, so with as many as a block may train nothing ends earlier.
    """
    return Config.from_dict({
        "model": {"name": "mlp", "depth": blocks, "width": size["width"], "norm": "none"},
        "dataset": {
            "name": "noise", "shape": [size["width"]], "num_train": size["samples"], "num_test": size["batch"],
        },
        "rule": {"name": "linear_decoder"}, "optimizer": {"name": "adam", "lr": 1e-4},
        "train": {"epochs": EPOCHS, "batch_size": size["batch"], "eval_every": EPOCHS},
        "schedule": {"mode": "sequential", "patience": EPOCHS, "tolerance": 0.0, "cache": cache},
        "run": {"stages": stages, "threads": 1, "partition": "parameters", "timeout_s": 120.0},
    })  # fmt: skip


def seconds(config: Config) -> float:
    """One run, in processes of its own.

    Raises:
        RuntimeError: the blocks did not train equally long, so the times would not compare.
    """
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        result = train(config, out=Path(folder) / "run", data_root=Path(folder))
    trained = [block["epochs_trained"] for block in result["blocks"]]
    if set(trained) != {EPOCHS}:
        raise RuntimeError(
            f"blocks trained unequally long (given: {trained} epochs, expected: {EPOCHS} each). Look at the schedule."
        )
    return float(result["wall_s"])


def table_of(depths: Sequence[int], stages: Sequence[int], size: dict[str, int], rounds: int) -> dict[str, Any]:
    """Times of all runs, in turns, and how they grow when the number of blocks doubles, round by round."""
    arms = {(s, c, n): partial(seconds, config_of(n, c, s, size)) for s in stages for c in CACHES for n in depths}
    found = take_turns({f"{s} {c} {n}": call for (s, c, n), call in arms.items()}, rounds)
    rows = []
    for s in stages:
        for c in CACHES:
            times = {n: found[f"{s} {c} {n}"] for n in depths}
            growth = {f"{more}/{less}": ratio(times[more], times[less]) for less, more in pairwise(depths)}
            rows.append({
                "stages": s, "cache": c, "seconds": {str(n): spread(t) for n, t in times.items()}, "growth": growth,
            })  # fmt: skip
    return {"blocks": list(depths), "arms": rows}


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line per arm, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small networks, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about = environment("benchmarks.sequential", arguments, threads=1)
    warm_up("noise")
    size = {"width": options.width, "batch": 128, "samples": 4096, "epochs": EPOCHS}
    depths, stages, rounds = [4, 8, 16], [1, 2], options.rounds
    if options.quick:
        size, depths, stages, rounds = {**size, "width": 32, "batch": 32, "samples": 128}, [1, 2], [2], 1
    table = table_of(depths, stages, size, rounds)
    for row in table["arms"]:
        growth = ", ".join(f"{name}: {found['median']:.2f}" for name, found in row["growth"].items())
        print(f"{row['stages']} stages, cache {row['cache']}: time grows by {growth}", flush=True)
    write(options.out, {**size, **table, "rounds": rounds, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
