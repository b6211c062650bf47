"""Lillicrap, Cownden, Tweed and Akerman, random feedback weights (2016): the linear toy."""

from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, PublishedTable
from benchmarks.accuracy.metrics import block_angle, loss_after

__all__ = ["TABLES"]

_STEPS = 50
"""Of an epoch."""
_BASE: dict[str, Any] = {
    "dataset.name": "benchmarks.linear_toy.samples", "model.name": "benchmarks.linear_toy.network",
    "optimizer.name": "sgd", "optimizer.lr": 0.01, "train.batch_size": 32, "train.epochs": 40, "measure.every": 1,
    "measure.accuracies": False, "measure.updates": False, "measure.keep_weights": False,
}  # fmt: skip
_SEEN = (1, 2, 10, 20, 40)
_LAST = _STEPS * _SEEN[-1]
_FA, _BP = "FA", "backprop"


def _cell(row: str, rule: str) -> Cell:
    figures = [Figure(row, f"loss, {_STEPS * epoch} steps", loss_after(epoch)) for epoch in _SEEN]
    if row == _FA:
        bands = {_SEEN[-1]: Band(most=60.0)}
        figures = [Figure(row, f"angle, {_STEPS * epoch} steps", block_angle(0, epoch), None, bands.get(epoch))
                   for epoch in (0, *_SEEN)] + figures  # fmt: skip
    return Cell(row.lower(), {**_BASE, "rule.name": rule}, figures, tuple(range(5)))


TABLES = (
    PublishedTable(
        "lillicrap",
        "Feedback alignment's linear toy, 30-20-10: angle between its update of the first layer and backprop's in "
        "degrees, and the mean squared error on the test set",
        "Lillicrap et al. (2016), without figures; the net and its weights from memory",
        [_cell(_FA, "benchmarks.linear_toy.fa"), _cell(_BP, "backprop")],
        [
            Check("the angle falls from the start to the end",
                  [((_FA, f"angle, {_LAST} steps"), (_FA, "angle, 0 steps"))], Band(most=0.0)),
        ],
        "A linear map of 30 to 10 numbers, uniform in +-1, is learned by 30-20-10 linear units. Weights start uniform "
        "in +-.01, the feedback matrix in +-.5. Chosen here: 1 600 normal inputs in batches of 32, descent at .01 on "
        "the mean squared error, 2 000 steps; medians over five seeds, which share the samples. The angle is that of "
        "one batch of 512 samples; at most 60 degrees at the end is what is asked here. Backpropagation is slow to "
        "leave weights of .01, through which its errors come down; the feedback matrix is larger.",
    ),
)  # fmt: skip
