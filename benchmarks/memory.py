"""Memory of every stage by its use, for networks of 8 to 64 blocks, and for language models of 8 and 32 layers.

    python -m benchmarks.memory --out benchmarks/results/memory.json
    python -m benchmarks.memory --preset lm --rounds 1 --out benchmarks/results/memory-lm.json

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
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, leave_on_sigterm, spread, take_turns, write
from benchmarks.memory_arms import WORKLOADS, MemoryArm, our_run, plain_backprop
from benchmarks.pair import run_pair
from pipeline.records.number_text import format_bytes
from pipeline.records.time_budget import peak_rss_bytes
from workers.host.fork_server import warm_up

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 300.0
PARTS = ("parameter", "head", "optimizer", "held", "queue", "other")
"""Parts of a stage's peak above the baseline."""


def nothing(index: int, peer: Connection) -> int:
    """Peak of the baseline: a process forked from the server that has built nothing."""
    return peak_rss_bytes()


def one(task: dict[str, Any]) -> Any:
    """Do one run and return its rows; the root of a tree of processes."""
    warm_up("noise")
    if task["arm"] is None:
        return run_pair(nothing)
    arm = MemoryArm(**task["arm"])
    make = WORKLOADS[task["preset"]].config
    config = make(arm, task["blocks"], task["width"], task["batch"], task["device"])
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
            with suppress(ProcessLookupError):  # with every process that the run has left behind
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


def row_of(arm: MemoryArm, blocks: int, runs: Sequence[Any], baselines: Sequence[int]) -> dict[str, Any]:
    """An arm over its rounds: every part the median, the peak with its spread, stage by stage."""
    split = [[split_up(s, baseline) for s in stages] for stages, baseline in zip(runs, baselines, strict=True)]
    stages = []
    for same in zip(*split, strict=True):
        medians = {f"{n}_bytes": statistics.median(s[f"{n}_bytes"] for s in same) for n in PARTS}
        where = {name: same[0][name] for name in ("stage", "blocks")}
        stages.append({**where, **medians, "peak_bytes": spread([s["peak_bytes"] for s in same])})
    return {"arm": arm.name, "blocks": blocks, "baseline_bytes": statistics.median(baselines), "stages": stages}


def measure(blocks: int, arms: Sequence[MemoryArm], task: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
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
    parser.add_argument("--preset", choices=WORKLOADS, default="mlp", help="default: mlp")
    parser.add_argument("--width", type=int, metavar="N", help="features of a block; default: the preset's")
    parser.add_argument("--batch", type=int, metavar="N", help="samples of an update; default: the preset's")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(one(options.one)))
        return 0
    about = environment("benchmarks.memory", arguments, threads=1)
    work = WORKLOADS[options.preset]
    width, batch = (32, 16) if options.quick else (options.width or work.width, options.batch or work.batch)
    sizes, arms, rounds = work.blocks, work.arms, options.rounds
    if options.quick:
        sizes, arms, rounds = (2, 4), (arms[0], arms[-1]), 1
    task = {"preset": options.preset, "width": width, "batch": batch, "device": options.device}
    rows = [row for blocks in sizes for row in measure(blocks, arms, task, rounds)]
    write(options.out, {**task, "rounds": rounds, "networks": rows, "held_growth": growth(rows), "environment": about})
    return 0


if __name__ == "__main__":
    leave_on_sigterm()
    sys.exit(main(sys.argv[1:]))
