"""Language models cut into blocks with losses of their own, beside backpropagation.

Nothing is in print with code to it; closed papers report a loss of 1 to 6 per cent for two to four blocks. The table
compares arms with each other.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Figure, PublishedTable
from benchmarks.published.lm_parts import Arm, Arms, bits_of

__all__ = ["TABLES"]

STEPS_PER_EPOCH = 250
BUDGETS = (500, 1000, 2000, 4000)
"""Optimizer steps, each with a cosine of its own."""
_SEEDS_AT = 1000
RATES = {500: (1e-3, 2e-3, 3e-3, 6e-3, 1.2e-2), 4000: (3e-3, 6e-3)}
"""Tried for some arms, by steps; that of the base is the one that all arms have."""
_SHARED = "shared read-out, each 50"
_TUNED = {
    500: ("backprop", "2 blocks, own, normed", f"2 blocks, {_SHARED}", "4 blocks, own, normed", f"4 blocks, {_SHARED}"),
    4000: ("backprop", f"2 blocks, {_SHARED}", f"4 blocks, {_SHARED}"),
}
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
_PLAIN_BUDGETS = BUDGETS[:2]
"""Of the overlap without a norm in front of its read-outs."""


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
    asked = Band(most=2.75) if (row, budget) == ("backprop", 1000) else None
    figures = [Figure(row, f"{budget} steps", bits_of, band=asked)]
    seeds = (0, 1, 2) if budget == _SEEDS_AT else (0,)
    return Cell(f"{_name(row)}-{budget}", config, figures, seeds, limit_s=7200.0)


def _tried(row: str, arm: Mapping[str, Any], rate: float, budget: int) -> Cell:
    """A cell of another rate: it stands in the tables of rates alone."""
    config = {**_BASE, **arm, "train.epochs": budget // STEPS_PER_EPOCH, "optimizer.lr": rate}
    name = f"{_name(row)}-lr{1e3 * rate:g}e-3-{budget}"
    return Cell(name, config, (), limit_s=7200.0)


def _rates(row: str, arm: Mapping[str, Any], budget: int, usual: Cell) -> dict[float, Cell]:
    """The cells of a tuned arm by rate; the one that every arm has is in the table already."""
    rates = RATES[budget]
    return {rate: usual if rate == _BASE["optimizer.lr"] else _tried(row, arm, rate, budget) for rate in rates}


def _small_arms() -> list[Arm]:
    """The arms of ``lm``."""
    found = []
    options: dict[str, Mapping[str, Any]] = {}
    for row, arm in _arms(8).items():
        options[row] = arm
        if row.endswith("interlock over 2"):
            options[f"{row}, no norm"] = {key: value for key, value in arm.items() if key != "rule.norm"}
    for row, arm in options.items():
        budgets = _PLAIN_BUDGETS if row.endswith("no norm") else BUDGETS
        cells = {budget: _cell(row, arm, budget) for budget in budgets}
        rates = {budget: _rates(row, arm, budget, cells[budget]) for budget, rows in _TUNED.items() if row in rows}
        is_local = arm["rule.name"] in ("aux", "readout") or (arm["rule.name"] == "interlock" and row[0] != "2")
        found.append(Arm(row, 8 // arm["model.layers_per_block"], is_local, cells, rates))
    return found


_ARMS = _small_arms()
_PARTS = Arms(
    _ARMS, asked=((1000, 2, 0.0), (4000, 2, 1.0), (4000, 4, 2.0)),
    usual=[f"{count} blocks, own, normed" for count in (2, 4, 8)],
)  # fmt: skip
_CELLS = [cell for budget in BUDGETS for arm in _ARMS if (cell := arm.budgets.get(budget)) is not None]
_CELLS += [cell for arm in _ARMS for cells in arm.rates.values() for cell in cells.values() if not cell.figures]
_NOTE = (
    "Tiny Shakespeare, a tenth held out; 8 layers of 128, windows of 128, 16 a step; AdamW at 3e-3 for every arm, "
    "which is not the best rate of each. At 1000 steps a median of the seeds that have run, of three, elsewhere one "
    "seed: arms are compared below, seed by seed, and not here. backprop is one "
    "block: its gradient's norm is bounded as a whole, that of the others block by block. An interlock over both of "
    "two blocks is backprop bounded block by block, and counts as no local arm."
)

TABLES = (
    PublishedTable(
        "lm", "Language models in blocks, bits per byte of held-out text", "none", _CELLS, note=_NOTE,
        parts=(_PARTS.verdicts, _PARTS.gaps, _PARTS.read_outs, _PARTS.blocks, _PARTS.depth, _PARTS.rates,
               _PARTS.costs),
    ),
    PublishedTable(
        "lm-m", "Language models in blocks on a GPU, bits per byte of held-out text", "none",
        [
            Cell(_name(row), {**_MEDIUM, **arm, "train.epochs": 16}, [Figure(row, "4000 steps", bits_of)],
                 device="cuda", limit_s=7200.0)
            for row, arm in _arms(12).items()
        ],
        note="12 layers of 512, windows of 512, 16 a step, bfloat16 products, AdamW at 1e-3.",
    ),
)  # fmt: skip
