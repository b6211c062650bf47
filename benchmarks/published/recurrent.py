"""Recurrent nets: rules beside backpropagation through time, and beside a recurrent layer that never learns."""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Cell, Figure, PublishedTable, in_order
from benchmarks.accuracy.metrics import last, test_loss

__all__ = ["TABLES"]

_BASE = {"model.name": "rnn", "model.radius": 0.9, "optimizer.name": "adam"}
_ROWS = {
    **_BASE, "dataset.name": "mnist_rows", "dataset.target": "next_row", "dataset.chunk": 9, "model.width": 128,
    "optimizer.lr": 1e-3, "train.batch_size": 100, "train.epochs": 5,
}  # fmt: skip
_COPY = {
    **_BASE, "dataset.name": "delayed_copy", "dataset.length": 20, "dataset.chunk": 4, "model.width": 32,
    "optimizer.lr": 3e-3, "train.batch_size": 50, "train.epochs": 4,
}  # fmt: skip
_FIXED, _LRA = "fixed recurrent layer", "LRA"
_WHOLE = "BPTT, whole sequence"
_ARMS: dict[str, dict[str, Any]] = {
    _FIXED: {"rule.name": "backprop", "model.trains": "none"},
    _LRA: {"rule.name": "lra_rnn"},
    "LRA, fixed V": {"rule.name": "lra_rnn", "model.trains": "inputs"},
    "LRA, targets in time by a matrix": {"rule.name": "lra_rnn", "rule.through_time": "fdbk"},
    "LRA, targets in time by steps": {"rule.name": "lra_rnn", "rule.through_time": "diff"},
    "DFA inside the cell": {"rule.name": "dfa", "rule.inject": "cell"},
    "BPTT, one step": {"rule.name": "backprop", "model.truncate": 1},
    "BPTT, chunks": {"rule.name": "backprop"},
    "synthetic gradients at the edges": {"rule.name": "dni_rnn"},
    _WHOLE: {"rule.name": "backprop", "dataset.chunk": 0},
    "BPTT, whole, LSTM": {"rule.name": "backprop", "dataset.chunk": 0, "model.cell": "lstm"},
    "BPTT, whole, GRU": {"rule.name": "backprop", "dataset.chunk": 0, "model.cell": "gru"},
}  # fmt: skip


def _thousandths(run: Mapping[str, Any]) -> float | None:
    """The mean squared error on the test set, times 1000."""
    loss = test_loss(run)
    return None if loss is None else 1000 * loss


def _cell(
    arm: str, task: str, base: dict[str, Any], chunks: int, figures: list[Figure], seeds: tuple[int, ...]
) -> Cell:  # fmt: skip
    """One arm; whole sequences go ``chunks`` times through, so that all arms have as many updates."""
    config = {**base, **_ARMS[arm]}
    config["train.epochs"] *= chunks if config["dataset.chunk"] == 0 else 1
    name = "".join(c if c.isalnum() else "-" for c in arm.lower()).replace("--", "-")
    return Cell(f"{task}-{name}", config, figures, seeds)


def _cells() -> list[Cell]:
    """Every arm on every task."""
    cells = [_cell(arm, "rows", _ROWS, 3, [Figure(arm, "next row, mse x 1000", _thousandths)], (0,)) for arm in _ARMS]
    for delay in (1, 5):
        for arm in _ARMS:
            column = f"copy of {delay}"
            figures = [Figure(arm, f"{column}, error in %", last), Figure(arm, f"{column}, loss", test_loss)]
            cells.append(_cell(arm, f"copy{delay}", {**_COPY, "dataset.delay": delay}, 5, figures, (0, 1, 2)))
    return cells


TABLES = (
    PublishedTable(
        "rnn",
        "Recurrent nets of one layer: next rows of MNIST, and delayed copy of one of two symbols",
        "none: Ororbia et al. (2018), appendix B, has no experiment, and the others have none of these",
        _cells(),
        [
            in_order("LRA predicts the next row better than a fixed recurrent layer", "next row, mse x 1000",
                     [[_LRA], [_FIXED]]),
            in_order("LRA copies from the step before better than a fixed recurrent layer", "copy of 1, loss",
                     [[_LRA], [_FIXED]]),
            in_order("LRA does not learn to keep a symbol for five steps: a fixed layer is no worse",
                     "copy of 5, error in %", [[_FIXED], [_LRA]]),
            in_order("Synthetic gradients at the edges are better than chunks of BPTT without, beyond a chunk",
                     "copy of 5, error in %", [["synthetic gradients at the edges"], ["BPTT, chunks"]]),
        ],
        "Elman cells of 128 (rows) and 32 units (copy), recurrent weights from an orthogonal matrix times .9, Adam at "
        "1e-3 and 3e-3, 9 000 and 800 updates of 100 and 50 sequences' chunks. Rows are cut into 3 chunks of 9, copies "
        "of 20 steps into 5 of 4; BPTT over whole sequences has as many updates, and so more of the data. All of it is "
        "chosen here. In copies a blank is due in the first steps, and half of the others is right by chance: 47 % and "
        "37 % error know nothing.",
    ),
)  # fmt: skip
