"""A resolved run of the digits, a placement, rows as stages report them, and a clock that a test sets."""

from functools import cache
from pathlib import Path

from pipeline.config import Config
from pipeline.resolve import resolve
from pipeline.schedules.plan import BlockMode, Plan
from workers.placement import Placement
from workers.view.text import RunText

__all__ = ["Clock", "blocks", "text", "parallel", "placed", "report", "resolved", "result", "sequential"]


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def pass_s(self, seconds):
        self.now += seconds


@cache
def resolved(mode="parallel", rule="predsim", epochs=20):
    """Four blocks, 23 steps of 64 samples."""
    rule = {"name": rule}
    model = {"name": "mlp", "depth": 3, "width": 8}
    table = {"model": model, "rule": rule, "train": {"epochs": epochs}, "schedule": {"mode": mode}}
    return resolve(Config.from_dict(table), Path("nowhere"))


def placed(counts=(2, 2), devices=None, threads=1):
    """Stages of that many blocks each."""
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    partition = tuple(range(end - count, end) for end, count in zip(ends, counts, strict=True))
    return Placement(partition, tuple(devices or ["cpu"] * len(counts)), "shared_memory", threads)


def text(run, placement, clock):
    return RunText(run, placement, Path("runs/one"), clock)


def parallel(epoch, num_blocks=4, evaluate=True):
    return Plan(epoch, (BlockMode.TRAIN,) * num_blocks, (epoch,) * num_blocks, evaluate=evaluate)


def sequential(epoch, block, trained, source=None):
    """Of four blocks, ``block`` trains; those below are frozen, those above idle."""
    modes = [BlockMode.FROZEN] * block + [BlockMode.TRAIN] + [BlockMode.IDLE] * (3 - block)
    counts = tuple(trained if k == block else 0 for k in range(4))
    return Plan(epoch, tuple(modes), counts, source=block if source is None else source)


def blocks(first, losses, accuracies):
    """A row for each block from ``first`` on; a loss of ``...`` is a block that is frozen."""
    return [
        {
            "block": first + i, "trained": loss is not ..., "train_loss": None if loss is ... else loss,
            "test_accuracy": accuracy, "test_loss": None, "credit": None,
        }
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]  # fmt: skip


def report(stage, epoch, step, samples, loss=0.5, fill=None):
    """A stage's news; ``step`` counts from the run's first."""
    return {"stage": stage, "epoch": epoch, "step": step, "samples": samples, "loss": loss, "fill": fill}


def result(accuracies):
    """``result.json``, as far as views read it."""
    return {
        "test": {"accuracy": accuracies[-1], "loss": 0.1}, "train_samples_per_s": 17553.3, "wall_s": 1.637,
        "blocks": [{"block": k, "test_accuracy": a} for k, a in enumerate(accuracies)],
    }  # fmt: skip
