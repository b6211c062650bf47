"""Breloff's post on feedback alignment that enters before a threshold: a net of sign units, which no gradient trains.

Backpropagation through the sign is 0, so it trains the last layer alone, on frozen random features. That baseline is
far from chance, and it is what the rule has to beat.
"""

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, PublishedTable
from benchmarks.accuracy.metrics import best, last

__all__ = ["TABLES"]

_BASE = {
    "model.name": "mlp", "model.depth": 2, "model.width": 400, "model.activation": "sign", "model.norm": "none",
    "model.init": "xavier", "dataset.name": "mnist", "optimizer.name": "adam", "optimizer.lr": 1e-3,
    "train.batch_size": 128, "train.epochs": 5, "run.matmul_precision": "medium",
}  # fmt: skip
_FROZEN, _DFA = "frozen random features, trained last layer", "DFA in front of the threshold"


def _figures(row: str) -> list[Figure]:
    return [Figure(row, "best of 5 epochs", best), Figure(row, "last", last)]


TABLES = (
    PublishedTable(
        "breloff",
        "Breloff: 2x400 sign units on MNIST, test error in %",
        "Breloff's post, which has no figures; initial weights, rate and matrices are chosen here",
        [
            Cell("frozen", {**_BASE, "rule.name": "backprop"}, _figures(_FROZEN), (0, 1, 2)),
            Cell("dfa-pre", {**_BASE, "rule.name": "dfa", "rule.inject": "pre"}, _figures(_DFA), (0, 1, 2)),
        ],
        [Check("units without a derivative learn: frozen features are worse by 2 points or more",
               [((_FROZEN, "best of 5 epochs"), (_DFA, "best of 5 epochs"))], Band(least=2.0))],
    ),
)  # fmt: skip
