"""Recurrent nets: rules beside backpropagation through time, and beside a recurrent layer that never learns."""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Cell, Figure, PublishedTable, in_order
from benchmarks.accuracy.metrics import after, best, last, test_loss

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


_FIFTEEN = {
    "model.name": "rnn", "model.reads": "last", "model.width": 15, "model.radius": 0.9, "dataset.name": "mnist_rows",
    "train.batch_size": 200, "train.eval_batch_size": 1000, "train.epochs": 10,
}  # fmt: skip
_BY_ADAM, _BY_SGD = {"optimizer.name": "adam", "optimizer.lr": 3e-3}, {"optimizer.name": "sgd", "optimizer.lr": 0.1}
_CODES = {"rule.name": "am", "rule.reduction": "features", "rule.mu": 5.0, "rule.code_rate": 0.1,
          "model.boundary": "half"}  # fmt: skip
_HALVED = {"optimizer.milestones": [2, 4, 6, 8], "optimizer.gamma": 0.5}
_FROZEN, _AM_ADAM = "fixed recurrent layer, Adam", "AM-Adam, rate halved every 2 epochs"
_AM_ARMS: dict[str, dict[str, Any]] = {
    "AM-Adam": {**_CODES, **_BY_ADAM},
    _AM_ADAM: {**_CODES, **_BY_ADAM, **_HALVED},
    "AM-Adam, the same, codes' momentum .99": {
        **_CODES, **_BY_ADAM, **_HALVED, "rule.code_momentum": 0.99, "rule.code_steps": 6,
    },
    "AM-SGD": {**_CODES, **_BY_SGD},
    "BPTT, Adam": {"rule.name": "backprop", **_BY_ADAM},
    "BPTT, SGD": {"rule.name": "backprop", **_BY_SGD},
    "BPTT, fixed recurrent weights, Adam": {"rule.name": "backprop", "model.trains": "inputs", **_BY_ADAM},
    _FROZEN: {"rule.name": "backprop", "model.trains": "none", **_BY_ADAM},
}  # fmt: skip


def _named(arm: str) -> str:
    """A file's name."""
    return "".join(c if c.isalnum() else "-" for c in arm.lower()).replace("--", "-")


def _am_cell(arm: str) -> Cell:
    """The net of 15 units."""
    figures = [Figure(arm, "after 1 epoch", after(1)), Figure(arm, "last", last), Figure(arm, "best", best)]
    return Cell(_named(arm), {**_FIFTEEN, **_AM_ARMS[arm]}, figures)


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
    return Cell(f"{task}-{_named(arm)}", config, figures, seeds)


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
            in_order("LRA does not learn it where V learns, either: with a fixed V it is no worse",
                     "copy of 5, error in %", [["LRA, fixed V"], [_LRA]]),
            in_order("Synthetic gradients at the edges are better than chunks of BPTT without, beyond a chunk",
                     "copy of 5, error in %", [["synthetic gradients at the edges"], ["BPTT, chunks"]]),
        ],
        "Elman cells of 128 (rows) and 32 units (copy), recurrent weights from an orthogonal matrix times .9, Adam at "
        "1e-3 and 3e-3, 9 000 and 800 updates of 100 and 50 sequences' chunks. Rows are cut into 3 chunks of 9, copies "
        "of 20 steps into 5 of 4; BPTT over whole sequences has as many updates, and so more of the data. All of it is "
        "chosen here. In copies a blank is due in the first steps, and half of the others is right by chance: 47 % and "
        "37 % error know nothing. DFA inside the cell ends there, and beyond, also where a fixed layer copies without "
        "an error: in copies a layer that learns by this rule is worse than one that does not learn.",
    ),
    PublishedTable(
        "am-rnn",
        "Alternating minimisation of a recurrent net of 15 units: the digit behind 28 rows of MNIST, 10 epochs, test "
        "error in %",
        "Choromanska et al. (2019), Figure 6, curves only",
        [_am_cell(arm) for arm in _AM_ARMS],
        [in_order("AM-Adam at a falling rate is better than a fixed recurrent layer", "last",
                  [[_AM_ADAM], [_FROZEN]])],
        "Elman cells of tanh units, recurrent weights from an orthogonal matrix times .9, batches of 200, Adam at 3e-3 "
        "and plain descent at .1. Steps are layers with shared weights, and every step has a code. In print are the 15 "
        "units alone; all else is chosen here: sums over features, mu 5, and codes at a rate of .1 by 5 steps of "
        "momentum .9, or 6 of .99. From step to step back a code then moves by about .6 times as much (.55 under .99, "
        ".04 at the rule's default rate): the last rows teach more than the first ones.",
    ),
)  # fmt: skip
