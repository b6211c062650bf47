"""Speed of training on samples in files against samples in memory, where memory would not hold them.

    python -m benchmarks.mapped --out benchmarks/results/mapped.json

The same noise, three times as large as what a stage may allocate (``RLIMIT_DATA``), is trained on for one epoch, read
from memory without that limit, and from mapped files with it, the files' pages dropped from the system's cache before
each run: every sample comes from the disk. Both give the same weights. In memory under the limit, the run fails, which
is looked at first. The rate is ``train_samples_per_s`` of the runs, in turns.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import environment, ratio, spread, take_turns, write
from pipeline.config import Config
from pipeline.data.dataset import ArrayDataset, Dataset, Split
from pipeline.datasets import mapped
from workers.host.fork_server import warm_up
from workers.run import train

TIMES = 3
"""The data are so many times as large as what may be allocated."""
ROW = 3072
"""Numbers of a sample."""
BATCH = 128


def build(root: Path, *, path: str) -> Dataset:
    """The arrays of a folder, read into memory."""
    folder = root / path

    def read() -> tuple[Split, Split]:
        train_set, test = (
            Split(*(torch.from_numpy(np.load(folder / f"{kind}_{name}.npy")) for kind in "xy"))
            for name in ("train", "test")
        )
        return train_set, test

    return ArrayDataset("in memory", replace(mapped.build(root, path=path).spec, is_mapped=False), read)


def write_noise(folder: Path, num_bytes: int) -> int:
    """Writes training samples of so many bytes and a test batch; returns how many there are to train on."""
    count = num_bytes // (4 * ROW) // BATCH * BATCH
    rng = np.random.default_rng(0)
    for name, size in (("train", count), ("test", BATCH)):
        file = np.lib.format.open_memmap(folder / f"x_{name}.npy", "w+", np.float32, (size, ROW))
        for start in range(0, size, 4096):
            file[start : start + 4096] = rng.standard_normal((len(file[start : start + 4096]), ROW), np.float32)
        file.flush()
        np.save(folder / f"y_{name}.npy", rng.integers(0, 10, size))
    return count


def drop_pages(folder: Path) -> None:
    """Has the system forget the files, so that they have to be read from the disk."""
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def config_of(name: str, folder: Path, width: int) -> Config:
    """Eight hidden blocks under linear decoders, in two stages of a thread."""
    return Config.from_dict({
        "model": {"name": "mlp", "depth": 8, "width": width, "norm": "none"},
        "dataset": {"name": name, "path": str(folder)},
        "rule": {"name": "linear_decoder"}, "optimizer": {"name": "adam", "lr": 1e-4},
        "train": {"epochs": 1, "batch_size": BATCH},
        "run": {
            "stages": 2, "threads": 1, "partition": "parameters", "predict": False, "matmul_precision": "medium",
        },
    })  # fmt: skip


def one_run(name: str, folder: Path, width: int, limit: int) -> None:
    """A run, in a process of its own and under a limit; prints its rate and its weights as JSON. Args: limit, 0: none.

    Stages are started by a fork server, which has the limit from this process.
    """
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    warm_up(name)
    with tempfile.TemporaryDirectory(prefix="onward-") as out:
        result = train(config_of(name, folder, width), out=Path(out) / "run", data_root=Path(out))
    print(json.dumps([result["train_samples_per_s"], result["weights_sha256"]]))


def rate(name: str, folder: Path, width: int, limit: int) -> tuple[float, str] | None:
    """Samples per second and weights; None where the run failed."""
    if name == "mapped":
        drop_pages(folder)
    command = [sys.executable, "-m", "benchmarks.mapped", "--arm", name, str(folder), str(width), str(limit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=1800)
    if done.returncode:
        return None
    samples_per_s, weights = json.loads(done.stdout.splitlines()[-1])
    return float(samples_per_s), str(weights)


def compare(folder: Path, limit: int, width: int, rounds: int) -> dict[str, Any]:
    """The rates of both arms.

    Raises:
        RuntimeError: a run failed that should not, or did not that should, or the weights differ.
    """
    count = write_noise(folder, TIMES * limit)
    if rate("benchmarks.mapped", folder, width, limit) is not None:
        raise RuntimeError(f"the data fit into memory (given: a limit of {limit} bytes). Lower --allowed.")
    arms = {"memory": ("benchmarks.mapped", 0), "mapped": ("mapped", limit)}
    calls = {arm: partial(rate, name, folder, width, most) for arm, (name, most) in arms.items()}
    found = take_turns(calls, rounds)
    runs = {arm: [run for run in several if run is not None] for arm, several in found.items()}
    if any(len(several) < rounds for several in runs.values()) or len({w for s in runs.values() for _, w in s}) > 1:
        raise RuntimeError(f"a run failed, or the weights differ (given: {found}, expected: the same). Look at them.")
    rates = {arm: [samples_per_s for samples_per_s, _ in several] for arm, several in runs.items()}
    return {
        "samples": count, "data_bytes": count * 4 * ROW, "allowed_bytes": limit,
        "samples_per_s": {arm: spread(several) for arm, several in rates.items()},
        "mapped/memory": ratio(rates["mapped"], rates["memory"]), "load_average": list(os.getloadavg()),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mapped", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small network, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=1024, help="units of a block")
    parser.add_argument("--allowed", type=int, default=2**30, help="bytes that a stage may allocate; default: 1 GiB")
    parser.add_argument("--data", type=Path, help="an existing folder on the disk to be read from; default: temporary")
    parser.add_argument("--arm", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    if options.arm:
        name, folder, width, limit = options.arm
        one_run(name, Path(folder), int(width), int(limit))
        return 0
    about = environment("benchmarks.mapped", arguments, threads=1)
    width, rounds = (64, 1) if options.quick else (options.width, options.rounds)
    with tempfile.TemporaryDirectory(prefix="onward-data-", dir=options.data) as folder:
        table = compare(Path(folder), options.allowed, width, rounds)
    print(f"mapped against memory: {table['mapped/memory']['median']:.3f} of the samples per second")
    write(options.out, {**table, "width": width, "batch": BATCH, "rounds": rounds, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
