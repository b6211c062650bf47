"""Frenkel, Lefebvre and Bol, direct random target projection (2021): the smallest of their nets on MNIST."""

from benchmarks.accuracy.cell import Band, Cell, Figure, PublishedTable
from benchmarks.accuracy.metrics import best, last

__all__ = ["TABLES"]

_CONFIG = {
    "model.name": "mlp", "model.depth": 1, "model.width": 500, "model.activation": "tanh", "model.norm": "none",
    "dataset.name": "mnist", "rule.name": "drtp", "optimizer.name": "adam", "optimizer.lr": 1.5e-4,
    "train.loss": "logistic", "train.batch_size": 100, "train.epochs": 60, "run.matmul_precision": "medium",
}  # fmt: skip
_ROW = "FC1-500"

TABLES = (
    PublishedTable(
        "drtp",
        "Frenkel: DRTP on MNIST, test error in %",
        "Frenkel, Lefebvre and Bol (2021); about 4 to 5 % by memory of the paper",
        [Cell("fc1-500", _CONFIG, [Figure(_ROW, "best of 60 epochs", best, None, Band(3.5, 6.0)),
                                   Figure(_ROW, "last", last)])],
    ),
)  # fmt: skip
