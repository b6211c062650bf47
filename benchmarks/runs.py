"""Runs of a set of configs, one after another, and the table of their results.

    python -m benchmarks.runs mnist --data-root DIR --out benchmarks/results/mnist.json

One JSON file holds the rows and what is needed to judge them: versions, commit, processor, threads, time of each
epoch. Runs never overlap, so that they do not take each other's cores.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from workers.host.environment import run_header
from workers.run import train

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True)
class RunArm:
    """One row of a table: a config and what is changed in it."""

    name: str
    config: str
    overrides: Sequence[str] = ()
    seeds: Sequence[int] = (0,)


@dataclass(frozen=True)
class RunTable:
    """Arms that belong side by side."""

    about: str
    arms: Sequence[RunArm] = field(default_factory=tuple)


SEEDS = tuple(range(20))
TWO = ("run.stages=2",)
TABLES = {
    "digits": RunTable("digits, MLP 3x256, the default config", [
        RunArm("backprop, one process", "digits", ["schedule.mode=backprop"]),
        RunArm("predsim, 2 stages", "digits", TWO), RunArm("pred, 2 stages", "digits", [*TWO, "rule.name=pred"]),
        RunArm("sim, 2 stages", "digits", [*TWO, "rule.name=sim"]),
        RunArm("linear_decoder, 2 stages", "digits", [*TWO, "rule.name=linear_decoder"]),
        RunArm("dfa, 2 stages, 2 in flight", "digits", [*TWO, "rule.name=dfa", "train.in_flight=2"]),
    ]),
    "mnist": RunTable("MNIST, MLP 3x1024, 10 epochs; dfa: MLP 2x800, 5 epochs", [
        RunArm("backprop, one process", "mnist_backprop"), RunArm("pred, 2 stages", "mnist_pred", TWO),
        RunArm("sim, 2 stages", "mnist_sim", TWO), RunArm("predsim, 2 stages", "mnist_predsim", TWO),
        RunArm("dfa, 2 stages", "mnist_dfa", TWO),
    ]),
    "signed_xor": RunTable("signed xor, 2-100-100-10-1, trained linear decoders, 50 epochs a block, 20 seeds", [
        RunArm("backprop, 100 epochs", "signed_xor", ["schedule.mode=backprop", "train.epochs=100"], SEEDS),
        RunArm("sequential", "signed_xor", seeds=SEEDS),
        RunArm("parallel, 50 epochs", "signed_xor", ["schedule.mode=parallel"], SEEDS),
        RunArm("parallel, 200 epochs", "signed_xor", ["schedule.mode=parallel", "train.epochs=200"], SEEDS),
    ]),
    "cifar10_quarter": RunTable("CIFAR-10 as JPEG, VGG8B at quarter width, first epochs", [
        RunArm("backprop, one process", "cifar10_vgg8b_quarter", ["schedule.mode=backprop",
                                                               "model.activation=relu"]),
        RunArm("predsim, 2 stages", "cifar10_vgg8b_quarter", TWO),
    ]),
}  # fmt: skip


def run_arm(arm: RunArm, seed: int, data_root: Path, extra: Sequence[str]) -> dict[str, Any]:
    """One run; its result, and the seconds between the ends of its epochs."""
    loaded = load_config(CONFIGS / f"{arm.config}.toml", [*arm.overrides, f"seed={seed}", *extra])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        result = train(loaded.config, out=out, data_root=data_root)
        rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
    last = result["num_stages"] - 1
    ends = [row["time_s"] for row in rows if row["event"] == "epoch" and row["stage"] == last]
    gaps = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    return {
        "arm": arm.name, "config": arm.config, "overrides": [*arm.overrides, *extra], "seed": seed,
        "epoch_s": {"median": statistics.median(gaps), "all": gaps} if gaps else None,
        "accuracies": accuracies(rows, result["num_blocks"] - 1), "result": result,
    }  # fmt: skip


def accuracies(rows: Sequence[dict[str, Any]], block: int) -> list[float]:
    """Test accuracy of ``block`` after each epoch in which it was evaluated."""
    return [
        entry["test_accuracy"] for row in rows if row["event"] == "epoch"
        for entry in row["blocks"] if entry["block"] == block and entry["test_accuracy"] is not None
    ]  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An arm over its seeds."""
    found = [row["result"]["test"]["accuracy"] for row in rows]
    per_epoch = [row["epoch_s"]["median"] for row in rows if row["epoch_s"]]
    return {
        "arm": rows[0]["arm"], "n": len(rows), "median_accuracy": statistics.median(found), "worst": min(found),
        "best": max(found), "stages": rows[0]["result"]["num_stages"],
        "median_epoch_s": statistics.median(per_epoch) if per_epoch else None,
    }  # fmt: skip


def markdown(summaries: Sequence[dict[str, Any]]) -> str:
    """A table for people."""
    lines = ["| arm | test error, % | seeds | s per epoch |", "| --- | ---: | ---: | ---: |"]
    for row in summaries:
        error = f"{100 * (1 - row['median_accuracy']):.2f}"
        if row["n"] > 1:
            error += f" ({100 * (1 - row['best']):.2f} to {100 * (1 - row['worst']):.2f})"
        epoch_s = row["median_epoch_s"]
        seconds = "-" if epoch_s is None or epoch_s < 0.01 else f"{epoch_s:.2f}"
        lines.append(f"| {row['arm']} | {error} | {row['n']} | {seconds} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="for every arm")
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("ONWARD_DATA", "data")))
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_intermixed_args(arguments)
    table, rows, summaries = TABLES[options.table], [], []
    # Before the runs: the commit that ran, not a later one.
    header = run_header(["python", "-m", "benchmarks.runs", *arguments], {}, 0, 0)
    for name in ("event", "config", "threads_per_stage", "num_stages"):
        del header[name]
    for arm in table.arms:
        found = [run_arm(arm, seed, options.data_root, options.overrides) for seed in arm.seeds]
        rows += found
        summaries.append(summary(found))
        print(markdown(summaries[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table.about}\n\n{markdown(summaries)}")
    if options.out:
        text = json.dumps({"table": options.table, "about": table.about, "summary": summaries, "rows": rows,
                           "environment": header}, indent=1)  # fmt: skip
        options.out.write_text(text + "\n", encoding="utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
