"""Where the memory of every stage goes, for networks of 8 to 64 blocks.

    python -m benchmarks.memory --out benchmarks/results/memory.json

Every run has a tree of processes of its own and reports, per stage, the peak of its resident memory (or of its device
memory) above a baseline, and what that consists of. The baseline is a process forked from the same server, which has
imported torch and our code and has built nothing. What is left when all known parts are taken away is ``other``:
gradients, the data in stage 0, workspaces, pages of libraries that are touched by computing.

Unit of ``held``: bytes of activations that autograd has saved in one stage at the peak, each storage once, weights
left out, for all micro-batches that the stage holds at once. Every arm updates on the same batch; arms that cut it
into micro-batches say so.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import environment, leave_on_sigterm, spread, take_turns, write
from benchmarks.pair import run_pair
from pipeline.config import Config
from pipeline.engine.in_flight import SavedTensors
from pipeline.network.block import build_block
from pipeline.optim.optimizers import load_optimizer
from pipeline.records.time_budget import format_bytes, module_bytes, peak_device_bytes, peak_rss_bytes
from pipeline.resolve import load_dataset, resolve
from workers.host.fork_server import warm_up
from workers.run import train

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 120.0
STEPS = 6
BLOCKS: tuple[int, ...] = (8, 16, 32, 64)
PARTS = ("parameter", "head", "optimizer", "held", "queue", "other")
"""Of a stage's peak above the baseline."""


@dataclass(frozen=True)
class Arm:
    """One way of training the same network on the same batches."""

    name: str
    mode: str
    stages: int | str = 2
    microbatches: int = 0
    learn_after: str = "block"
    most_blocks: int = 64
    """No larger network: a process for each block is many processes."""


ARMS: tuple[Arm, ...] = (
    Arm("onward-2", "parallel"),
    Arm("onward-2, 4 micro-batches", "parallel", microbatches=4),
    Arm("onward-2, learning after the stage", "parallel", learn_after="stage"),
    Arm("onward, a stage per block", "parallel", stages="blocks", most_blocks=16),
    Arm("1f1b-2, 4 micro-batches", "1f1b", microbatches=4),
    Arm("backprop", "plain", stages=1),
)


def config_of(arm: Arm, blocks: int, width: int, batch: int, device: str) -> Config:
    """``blocks`` blocks of one width, the last of them the output block, linear decoders, Adam."""
    return Config.from_dict({
        "model": {"name": "mlp", "depth": blocks - 1, "width": width, "norm": "none"},
        "dataset": {"name": "noise", "shape": [width], "num_train": STEPS * batch, "num_test": batch},
        "rule": {"name": "linear_decoder"}, "optimizer": {"name": "adam", "lr": 1e-4},
        "train": {"epochs": 1, "batch_size": batch, "microbatches": arm.microbatches},
        "schedule": {"mode": "backprop" if arm.mode == "plain" else arm.mode},
        "run": {"stages": arm.stages, "threads": 1, "device": device, "partition": "parameters",
                "timeout_s": 60.0, "learn_after": arm.learn_after},
    })  # fmt: skip


def block_bytes(config: Config) -> list[int]:
    """Parameters and buffers of every block, without what its rule adds to it."""
    found = resolve(config, Path())
    return [module_bytes([build_block(b, config.seed, k)]) for k, b in enumerate(found.blueprints)]


def our_run(config: Config) -> list[dict[str, Any]]:
    """A row for each stage, from ``result.json``; heads are what a stage's blocks do not have of their own."""
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        stages = train(config, out=Path(folder) / "run", data_root=Path(folder))["stages"]
    own = block_bytes(config)
    rows = []
    for found in stages:
        first, last = found["blocks"]
        names = ("optimizer_bytes", "held_bytes", "queue_bytes", "peak_rss_bytes", "peak_device_bytes")
        parameters = sum(own[first : last + 1])
        rows.append({
            "stage": found["stage"], "blocks": last - first + 1, "parameter_bytes": parameters,
            "head_bytes": found["parameter_bytes"] - parameters, **{n: found[n] for n in names},
        })  # fmt: skip
    return rows


def plain_backprop(index: int, peer: Connection, config: Config) -> list[dict[str, Any]] | None:
    """Backpropagation as anybody would write it: a Sequential, fused Adam, one process; a row as :func:`our_run`."""
    if index == 1:
        return None
    found = resolve(config, Path())
    device = torch.device("cuda" if config.run.device == "cuda" else "cpu")
    blocks = [build_block(b, config.seed, k) for k, b in enumerate(found.blueprints)]
    net = nn.Sequential(*blocks).to(device)
    optimizer = load_optimizer("adam", {"lr": 1e-4}).build(net.parameters())
    saved = SavedTensors(net.parameters())
    data = load_dataset(config, Path()).load()[0]
    for step in range(STEPS):
        rows = slice(step * config.train.batch_size, (step + 1) * config.train.batch_size)
        x, y = data.x[rows].to(device, copy=True), data.y[rows].to(device)  # a view would hold all data
        optimizer.zero_grad()
        with saved.watch():
            loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    return [{
        "stage": 0, "blocks": len(blocks), "parameter_bytes": module_bytes([net]), "head_bytes": 0,
        "optimizer_bytes": sum(t.nbytes for t in state), "held_bytes": saved.num_bytes, "queue_bytes": 0,
        "peak_rss_bytes": peak_rss_bytes(), "peak_device_bytes": peak_device_bytes(device),
    }]  # fmt: skip


def nothing(index: int, peer: Connection) -> int:
    """The baseline: forked from the server, built nothing."""
    return peak_rss_bytes()


def one(task: dict[str, Any]) -> Any:
    """The root of a tree of processes: does one run and returns what it is about."""
    warm_up("noise")
    if task["arm"] is None:
        return run_pair(nothing)
    arm = Arm(**task["arm"])
    config = config_of(arm, task["blocks"], task["width"], task["batch"], task["device"])
    if arm.mode == "plain":
        return run_pair(plain_backprop, config, timeout_s=LIMIT_S)
    return our_run(config)


def in_fresh_tree(task: dict[str, Any]) -> Any:
    """:func:`one` in a fresh interpreter.

    Raises:
        RuntimeError: it failed, or was not done in time.
    """
    command = [sys.executable, "-m", "benchmarks.memory", "--one", json.dumps(task)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                          start_new_session=True) as process:  # fmt: skip
        try:
            out, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"a run was not done in time (given: {task}, expected: within {LIMIT_S:g} s). "
                               "See what it waits for.") from None  # fmt: skip
        finally:
            with suppress(ProcessLookupError):  # whatever the run has left behind goes with it
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        last = (errors.strip().splitlines() or ["nothing on its standard error"])[-1]
        raise RuntimeError(f"a run failed (given: {task}; it says: {last}). Try it alone with --one.")
    return json.loads(out.splitlines()[-1])


def split_up(stage: dict[str, Any], baseline: int) -> dict[str, Any]:
    """``peak_bytes`` above the baseline, and the ``other_bytes`` of it that no known part explains.

    Device memory has no baseline: only tensors count in it. Slots between processes are host memory there.
    """
    on_device = stage["peak_device_bytes"] is not None
    peak = stage["peak_device_bytes"] if on_device else stage["peak_rss_bytes"] - baseline
    known = [n for n in PARTS[:-1] if not (on_device and n == "queue")]
    return {**stage, "peak_bytes": peak, "other_bytes": peak - sum(stage[f"{n}_bytes"] for n in known)}


def row_of(arm: Arm, blocks: int, runs: Sequence[Any], baselines: Sequence[int]) -> dict[str, Any]:
    """An arm over its rounds: every part the median, the peak with its spread, stage by stage."""
    split = [[split_up(s, baseline) for s in stages] for stages, baseline in zip(runs, baselines, strict=True)]
    stages = []
    for same in zip(*split, strict=True):
        medians = {f"{n}_bytes": statistics.median(s[f"{n}_bytes"] for s in same) for n in PARTS}
        where = {name: same[0][name] for name in ("stage", "blocks")}
        stages.append({**where, **medians, "peak_bytes": spread([s["peak_bytes"] for s in same])})
    return {"arm": arm.name, "blocks": blocks, "baseline_bytes": statistics.median(baselines), "stages": stages}


def measure(blocks: int, arms: Sequence[Arm], task: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """All arms on the network of ``blocks`` blocks, in turns with the baseline."""
    here = [arm for arm in arms if blocks <= arm.most_blocks]
    tasks = {"baseline": {**task, "arm": None}}
    tasks.update({arm.name: {**task, "arm": vars(arm), "blocks": blocks} for arm in here})
    found = take_turns({name: partial(in_fresh_tree, what) for name, what in tasks.items()}, rounds)
    rows = [row_of(arm, blocks, found[arm.name], found["baseline"]) for arm in here]
    for row in rows:
        worst = max(row["stages"], key=lambda s: s["peak_bytes"]["median"])
        print(f"{blocks:>3} blocks, {row['arm']}: at most {format_bytes(worst['peak_bytes']['median'])} in a stage, "
              f"held {format_bytes(max(s['held_bytes'] for s in row['stages']))}", flush=True)  # fmt: skip
    return rows


def growth(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Held bytes of the largest network of an arm over those of its smallest, most in any stage."""
    held: dict[str, list[float]] = {}
    for row in rows:
        held.setdefault(row["arm"], []).append(max(s["held_bytes"] for s in row["stages"]))
    return {arm: found[-1] / found[0] for arm, found in held.items() if found[0]}


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line per run, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two small networks, two arms, one round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(one(options.one)))
        return 0
    about = environment("benchmarks.memory", arguments, threads=1)
    width, batch = (32, 16) if options.quick else (options.width, options.batch)
    sizes, arms, rounds = BLOCKS, ARMS, options.rounds
    if options.quick:
        sizes, arms, rounds = (2, 4), (ARMS[0], ARMS[-1]), 1
    task = {"width": width, "batch": batch, "device": options.device}
    rows = [row for blocks in sizes for row in measure(blocks, arms, task, rounds)]
    write(options.out, {**task, "rounds": rounds, "networks": rows, "held_growth": growth(rows), "environment": about})
    return 0


if __name__ == "__main__":
    leave_on_sigterm()
    sys.exit(main(sys.argv[1:]))
