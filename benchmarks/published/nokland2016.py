"""Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks" (2016): MLPs on MNIST."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, Device, Figure, Place, PublishedTable
from benchmarks.accuracy.metrics import best, last

__all__ = ["TABLES"]

_BASE = {
    "model.name": "mlp", "model.norm": "none", "dataset.name": "mnist", "dataset.normalise": False,
    "optimizer.name": "rmsprop", "optimizer.lr": 1e-4, "train.batch_size": 64, "train.loss": "logistic",
    "train.eval_batch_size": 500, "run.matmul_precision": "medium",
}  # fmt: skip
_RULES = {"BP": "backprop", "FA": "fa", "DFA": "dfa"}
_WIDE = "2x800 tanh"
_NOTE = (
    "RMSprop at 1e-4, batches of 64, all 60 000 images as pixels in [0, 1], logistic outputs; weights start at 0 "
    "under FA and DFA, but for ReLU units. Published figures from memory of the paper."
)


def _cell(
    row: str, model: Mapping[str, Any], rule: str, epochs: int, device: Device, figures: Sequence[Figure],
    seeds: Sequence[int],
) -> Cell:  # fmt: skip
    zero = rule != "BP" and model["model.activation"] != "relu"
    config = {**_BASE, **model, "model.init": "zero" if zero else "default", "rule.name": _RULES[rule],
              "train.epochs": epochs}  # fmt: skip
    name = f"{row.replace(' ', '-')}-{_RULES[rule]}".lower()
    return Cell(name, config, figures, seeds, device, limit_s=7200.0)


def _model(depth: int, width: int, activation: str) -> dict[str, Any]:
    return {"model.depth": depth, "model.width": width, "model.activation": activation}


_STILL_FALLING = "25 epochs are too few: the error still falls, and the best is the last"
_BANDED = ("1x800 tanh", _WIDE)
_ROWS: Mapping[str, tuple[dict[str, Any], Mapping[str, float]]] = {
    "7x240 tanh": (_model(7, 240, "tanh"), {"BP": 2.16, "FA": 2.20, "DFA": 2.32}),
    "100x240 tanh": (_model(100, 240, "tanh"), {"DFA": 3.92}),
    "1x800 tanh": (_model(1, 800, "tanh"), {"BP": 1.59, "FA": 1.68, "DFA": 1.68}),
    _WIDE: (_model(2, 800, "tanh"), {"BP": 1.60, "FA": 1.64, "DFA": 1.74}),
    "3x800 tanh": (_model(3, 800, "tanh"), {"BP": 1.75, "FA": 1.66, "DFA": 1.70}),
    "4x800 tanh": (_model(4, 800, "tanh"), {"BP": 1.92, "FA": 1.70, "DFA": 1.83}),
    "2x800 logistic": (_model(2, 800, "sigmoid"), {"BP": 1.67, "FA": 1.82, "DFA": 1.75}),
    "2x800 ReLU": (_model(2, 800, "relu"), {"BP": 1.48, "FA": 1.74, "DFA": 1.70}),
}


def _short(row: str) -> list[Cell]:
    """A row's cells at 25 epochs; those of deep nets and of other units are reported only."""
    model, published = _ROWS[row]
    return [
        _cell(row, model, rule, 25, "cpu", [
            Figure(row, rule, best, figure, Band(most=2.4) if row in _BANDED else None,
                   _STILL_FALLING if (row, rule) == ("1x800 tanh", "FA") else ""),
            Figure(f"{row}, last epoch", rule, last)], (0, 1, 2) if row in _BANDED else (0,))
        for rule, figure in published.items()
    ]  # fmt: skip


def _full(row: str) -> list[Cell]:
    """A row's cells at 300 epochs; the bands are for tanh units, at the full figure."""
    model, published = _ROWS[row]
    banded = model["model.activation"] == "tanh"
    return [
        _cell(row, model, rule, 300, "cpu" if row == _REACHED else "cuda", [
            Figure(row, rule, best, figure, Band.around(figure, 0.25) if banded else None)], (0,))
        for rule, figure in published.items()
    ]  # fmt: skip


_SMALL = ("1x800 tanh", _WIDE, "7x240 tanh", "3x800 tanh", "2x800 logistic", "2x800 ReLU")
_REACHED = "1x800 tanh"
"""The row whose 300 epochs two cores run in half an hour."""
_PAIRS: list[tuple[Place, Place]] = [((row, "DFA"), (row, "BP")) for row in _BANDED]

TABLES = (
    PublishedTable(
        "nokland2016",
        "Nøkland 2016, MNIST: test error in %, best of 25 epochs where 300 were published",
        "Nøkland (2016), table 1",
        [cell for row in _SMALL for cell in _short(row)],
        [Check("DFA is at most .6 worse than backprop", _PAIRS, Band(most=0.6))],
        _NOTE,
    ),
    PublishedTable(
        "nokland2016-full",
        "Nøkland 2016, MNIST: test error in %, best of 300 epochs",
        "Nøkland (2016), table 1",
        [cell for row in _ROWS for cell in _full(row)],
        note=_NOTE,
    ),
)
