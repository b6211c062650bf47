"""Ways to project the output error under direct feedback alignment, beside the plain fixed matrix. Nothing is in print:
the table compares the projections with each other.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Cell, Figure, PublishedTable
from benchmarks.accuracy.metrics import best, last

__all__ = ["TABLES"]

_BASE = {
    "model.name": "mlp", "model.depth": 2, "model.norm": "none", "model.init": "xavier", "dataset.name": "mnist",
    "optimizer.name": "adam", "optimizer.lr": 1e-3, "train.batch_size": 128, "train.epochs": 5, "rule.name": "dfa",
}  # fmt: skip
_NETS: dict[str, Mapping[str, Any]] = {
    "2x800 tanh": {"model.width": 800, "model.activation": "tanh"},
    "2x400 sign": {"model.width": 400, "model.activation": "sign", "rule.inject": "pre"},
}
_PROJECTIONS: dict[str, Mapping[str, Any]] = {
    "uniform": {},
    "orthogonal": {"rule.matrix": "orthogonal"},
    "learned": {"rule.matrix": "learned", "optimizer.weight_decay": 1e-4},
    "mlp": {"rule.projection": "mlp"},
}


def _cell(net: str, projection: str) -> Cell:
    row = f"{net}, {projection}"
    figures = [Figure(row, "best of 5 epochs", best), Figure(row, "last", last)]
    return Cell(f"{net.replace(' ', '-')}-{projection}", {**_BASE, **_NETS[net], **_PROJECTIONS[projection]}, figures)


TABLES = (
    PublishedTable(
        "dfa-projections",
        "DFA with other projections on MNIST, test error in %",
        "none; the learned matrix is that of Kolen and Pollack (1994)",
        [_cell(net, projection) for net in _NETS for projection in _PROJECTIONS],
        note="The error enters sign units in front of the threshold. Where the matrix is learned, it and all weights "
        "decay by 1e-4, through Adam.",
    ),
)
