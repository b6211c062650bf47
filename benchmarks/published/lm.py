"""Language models cut into blocks with losses of their own, beside backpropagation.

Nothing is in print with code to it; closed papers report a loss of 1 to 6 per cent for two to four blocks. The table
compares arms with each other.
"""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Cell, Check, Figure, Metric, PublishedTable

__all__ = ["TABLES"]

STEPS_PER_EPOCH = 250
BUDGETS = (500, 1000, 2000, 4000)
"""Optimizer steps, each with a cosine of its own."""
_SEEDS_AT = 1000
_BASE = {
    "model.name": "transformer", "model.depth": 8, "model.width": 128, "model.heads": 4,
    "dataset.name": "text", "dataset.path": "text/shakespeare.txt", "dataset.window": 128,
    "dataset.windows": 16 * STEPS_PER_EPOCH, "train.batch_size": 16, "train.eval_every": 1000,
    "optimizer.name": "adamw", "optimizer.betas": [0.9, 0.95], "optimizer.lr": 3e-3, "optimizer.weight_decay": 0.1,
    "optimizer.decay_on": "matrices", "optimizer.course": "cosine", "optimizer.warmup_steps": 100,
    "optimizer.final_fraction": 0.1, "optimizer.clip": 1.0,
}  # fmt: skip
_MEDIUM = {
    **_BASE, "model.depth": 12, "model.width": 512, "model.heads": 8, "dataset.window": 512,
    "run.autocast": "bfloat16", "optimizer.lr": 1e-3,
}  # fmt: skip
"""38 million parameters, for a GPU."""
_WAYS: dict[str, Mapping[str, Any]] = {
    "own read-out": {"rule.name": "aux"},
    "own, normed": {"rule.name": "aux", "rule.norm": True},
    "own, one private layer": {"rule.name": "aux", "rule.depth": 1, "rule.norm": True},
    "interlock over 2": {"rule.name": "interlock", "rule.overlap": 2, "rule.norm": True},
    "shared read-out, each step": {"rule.name": "readout", "rule.every": 1},
    "shared read-out, each 50": {"rule.name": "readout", "rule.every": 50},
    "shared read-out, each 500": {"rule.name": "readout", "rule.every": 500},
    "dfa": {"rule.name": "dfa"},
}


def bits(block: int) -> Metric:
    """Bits per byte on the validation text after the last step, by the read-out of a block; -1 is the network's."""

    def metric(run: Mapping[str, Any]) -> float | None:
        losses = run.get("block_losses") or ()
        found = losses[block] if -len(losses) <= block < len(losses) else None
        return None if found is None else float(found) / math.log(2)

    return metric


def _arms(depth: int) -> dict[str, Mapping[str, Any]]:
    """Every arm of a network of ``depth`` layers, by its row."""
    found: dict[str, Mapping[str, Any]] = {"backprop": {"rule.name": "backprop", "model.layers_per_block": depth}}
    for count in (2, 4, 8):
        if depth % count == 0:
            for way, options in _WAYS.items():
                found[f"{count} blocks, {way}"] = {"model.layers_per_block": depth // count, **options}
    return found


def _name(row: str) -> str:
    return row.replace(",", "").replace(" ", "-")


def _cell(row: str, arm: Mapping[str, Any], budget: int) -> Cell:
    config = {**_BASE, **arm, "train.epochs": budget // STEPS_PER_EPOCH}
    figures = [Figure(row, f"{budget} steps", bits(-1))]
    if arm["rule.name"] not in ("backprop", "dfa"):
        figures.append(Figure(row, f"{budget}, first block", bits(0)))
    seeds = (0, 1, 2) if budget == _SEEDS_AT else (0,)
    return Cell(f"{_name(row)}-{budget}", config, figures, seeds, limit_s=7200.0)


def _check(budget: int) -> Check:
    """What cutting costs: every arm's bits less backpropagation's."""
    column = f"{budget} steps"
    pairs = [((row, column), ("backprop", column)) for row in _ROWS if row != "backprop"]
    return Check(f"bits above backprop after {budget} steps, row by row", pairs, None)


_ROWS = list(_arms(8))
_NOTE = (
    "Tiny Shakespeare, a tenth held out; 8 layers of 128, windows of 128, 16 a step; AdamW at 3e-3 for every arm, "
    "which is not the best rate of each. backprop is one block: its gradient's norm is bounded as a whole, that of the "
    "others block by block. An interlock over both of two blocks is backprop bounded block by block."
)

TABLES = (
    PublishedTable(
        "lm", "Language models in blocks, bits per byte of held-out text", "none",
        [_cell(row, arm, budget) for budget in BUDGETS for row, arm in _arms(8).items()],
        [_check(budget) for budget in BUDGETS], _NOTE,
    ),
    PublishedTable(
        "lm-m", "Language models in blocks on a GPU, bits per byte of held-out text", "none",
        [
            Cell(_name(row), {**_MEDIUM, **arm, "train.epochs": 16}, [Figure(row, "4000 steps", bits(-1))],
                 device="cuda", limit_s=7200.0)
            for row, arm in _arms(12).items()
        ],
        note="12 layers of 512, windows of 512, 16 a step, bfloat16 products, AdamW at 1e-3.",
    ),
)  # fmt: skip
