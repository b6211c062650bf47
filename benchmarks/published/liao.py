"""Sign symmetry on MNIST: what the signs of the weights are worth as feedback, beside fixed random feedback.

Liao, Leibo and Poggio (2016) and Xiao, Chen, Liao and Poggio (2018) have larger data sets and convolutional nets: no
figure of theirs is for this net.
"""

from benchmarks.accuracy.cell import Cell, Figure, PublishedTable, in_order
from benchmarks.accuracy.metrics import after, best, last

__all__ = ["TABLES"]

_BASE = {
    "model.name": "mlp", "model.depth": 3, "model.width": 256, "model.activation": "relu", "model.norm": "batch",
    "dataset.name": "mnist", "optimizer.name": "adam", "optimizer.lr": 1e-3, "optimizer.milestones": [6, 8],
    "train.batch_size": 100, "train.epochs": 10, "run.matmul_precision": "medium",
}  # fmt: skip
_ROWS = {
    "backprop": "backprop", "uSF, one magnitude": "usf", "brSF, magnitudes drawn for each batch": "brsf",
    "frSF, fixed magnitudes": "frsf", "FA, fixed random signs": "fa",
}  # fmt: skip
_SIGNS = list(_ROWS)[1:4]


def _cell(row: str, rule: str) -> Cell:
    figures = [Figure(row, "epoch 1", after(1)), Figure(row, "best of 10", best), Figure(row, "last", last)]
    return Cell(rule, {**_BASE, "rule.name": rule}, figures, (0, 1, 2))


TABLES = (
    PublishedTable(
        "sign-symmetry",
        "Sign symmetry: 3x256 ReLU with batch norm on MNIST, test error in %",
        "Liao, Leibo and Poggio (2016) for the rules, which have no figure for this net",
        [_cell(row, rule) for row, rule in _ROWS.items()],
        [in_order("the signs of the weights are worth more than fixed random ones", "best of 10",
                  [_SIGNS, ["FA, fixed random signs"]])],
        "Adam at 1e-3, batches of 100, scale of the feedback by Xavier. Nets, rate and epochs are chosen here.",
    ),
)  # fmt: skip
