"""Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018): MLPs of LRA.

Its figures are in :mod:`benchmarks.published.lra_figures`, its tables of units without a derivative in
:mod:`benchmarks.published.lra_units`.

Not in print: step, bounds, reduction, halting threshold, and the output loss, here softmax with cross-entropy. The
feedback matrices of FA and DFA are those of Nøkland (2016), to whom the text refers. Chosen here: beta .1, and 1 for
logistic units, whose derivative is small; displacements bounded by 5, and not at all for logistic units; gradients
summed over the batch; for tanh a rate of .003, because at the printed .01 the sums are too long a step (best of 100
epochs 4.23 %, rising).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Figure, PublishedTable
from benchmarks.accuracy.metrics import after, best

__all__ = ["DATA", "MLP", "RATES", "SGD", "TABLES", "ZERO", "fdbk"]

DATA = {
    "mnist": {"dataset.name": "mnist", "dataset.train_samples": 50000, "dataset.normalise": False},
    "fashion": {"dataset.name": "fashion_mnist", "dataset.train_samples": 50000, "dataset.normalise": False},
}
_CONSTANT = {"mnist": 88.65, "fashion": 90.0}
"""Error of a net that always says the same: a run that has not started."""
MLP = {"model.name": "mlp", "model.norm": "none", "train.eval_batch_size": 500}
SGD = {"optimizer.name": "sgd", "optimizer.lr": 0.01, "train.batch_size": 50}
ZERO = {"model.init": "zero"}


def fdbk(activation: str) -> dict[str, Any]:
    """LRA-fdbk's options for a unit."""
    slow = activation == "sigmoid"
    return {"rule.name": "lra_fdbk", "rule.beta": 1.0 if slow else 0.1, "rule.displacement_clip": 0.0 if slow else 5.0}


# Table 1: five rules, four initial deviations.

_STDS = (0.0, 0.025, 0.05, 0.1)
_FAILED = Band.around(88.65, 0.1)
_LONG, _SHORT = Band(most=3.6), Band(most=6.5)
_TABLE_1: Mapping[str, Mapping[str, Mapping[str, Sequence[float | None]]]] = {
    "mnist": {
        "backprop": {"sigmoid": (None, 88.66, 88.66, 88.66), "tanh": (None, 88.65, 2.67, 2.48)},
        "fa": {"sigmoid": (88.65, 88.65, 88.65, 88.65), "tanh": (16.1, 12.73, 11.86, 11.81)},
        "dfa": {"sigmoid": (30.84, 31.78, 31.77, 26.81), "tanh": (5.24, 4.11, 5.12, 4.9)},
        "dtp": {"sigmoid": (None, 18.06, 16.83, 17.06), "tanh": (None, 67.51, 5.38, 3.19)},
        "lra_fdbk": {"sigmoid": (2.75, 2.85, 2.89, 2.96), "tanh": (2.69, 2.87, 2.82, 3.72)},
    },
    "fashion": {
        "backprop": {"sigmoid": (None, 90.0, 90.0, 90.0), "tanh": (None, 29.04, 11.48, 11.38)},
        "fa": {"sigmoid": (90.0, 90.0, 90.0, 89.97), "tanh": (24.82, 24.57, 21.67, 20.01)},
        "dfa": {"sigmoid": (35.91, 37.4, 41.62, 37.7), "tanh": (13.92, 12.82, 13.95, 14.13)},
        "dtp": {"sigmoid": (None, 41.1, 26.26, 24.69), "tanh": (None, 79.84, 60.19, 13.59)},
        "lra_fdbk": {"sigmoid": (13.27, 12.85, 12.94, 12.96), "tanh": (11.85, 12.14, 12.62, 12.65)},
    },
}
_BANDS_1: Mapping[tuple[str, str], Sequence[Band | None]] = {
    ("backprop", "sigmoid"): (_FAILED,) * 4,
    ("backprop", "tanh"): (_FAILED, _FAILED, Band.around(2.5, 0.6), Band.around(2.5, 0.6)),
    ("fa", "sigmoid"): (_FAILED,) * 4,
    ("fa", "tanh"): (Band(10.0, 20.0),) * 4,
    ("dfa", "sigmoid"): (Band(15.0, 45.0),) * 4,
    ("dfa", "tanh"): (Band(2.5, 7.5),) * 4,
    ("lra_fdbk", "sigmoid"): (_LONG,) * 4,
    ("lra_fdbk", "tanh"): (_LONG,) * 4,
}
"""Of MNIST's best errors, in points."""


RATES: Mapping[str, dict[str, Any]] = {"sigmoid": {}, "tanh": {"optimizer.lr": 0.003}}
_OPTIONS_1: Mapping[str, dict[str, Any]] = {
    **{rule: {"rule.name": rule} for rule in ("backprop", "fa", "dfa")},
    "dtp": {"rule.name": "dtp", "rule.step": 5.0, "rule.noise": 0.36, "rule.scale_reconstruction": True,
            "rule.inverse_rate": 2.5, "optimizer.name": "adam", "optimizer.lr": 4e-4,
            "optimizer.milestones": [20, 25], "optimizer.gamma": 0.3, "train.epochs": 30},
}  # fmt: skip
"""By rule; plain descent takes dtp nowhere at this depth (92.3 % accuracy after 4 epochs, then worse)."""


_REASONS_1: Mapping[tuple[str, str], str] = {
    ("dfa", "sigmoid"): "better than printed, and only after more than 10 epochs at 88.65 %, with the feedback "
    "matrices of Nøkland (2016), to whom the source refers: uniform in +-1/sqrt(128)",
}

_JUMPS = "single epochs jump at this rate: 5.43 % after 9, 7.61 after 10, 5.30 after 11"


def _early_band(rule: str, activation: str, std: float) -> Band | None:
    """After 10 epochs; from zero weights tanh has a narrower one."""
    if rule == "backprop" and std == 0.0:
        return _FAILED
    if rule != "lra_fdbk":
        return None
    return Band(most=5.5) if (activation, std) == ("tanh", 0.0) else _SHORT


def _table_1_cell(data: str, rule: str, activation: str, index: int) -> Cell:
    std, column = _STDS[index], f"{activation} {_STDS[index]:g}"
    banded = data == "mnist"
    bands = _BANDS_1.get((rule, activation))
    figures = [
        Figure(rule, column, best, _TABLE_1[data][rule][activation][index],
               bands[index] if banded and bands else None, _REASONS_1.get((rule, activation), "") if banded else ""),
        Figure(f"{rule}, 10 epochs", column, after(10), None, _early_band(rule, activation, std) if banded else None,
               _JUMPS if rule == "lra_fdbk" and banded else ""),
    ]  # fmt: skip
    options = _OPTIONS_1.get(rule) or (fdbk(activation) | RATES[activation])
    init = ZERO if std == 0.0 else {"model.init": "normal", "model.init_std": std}
    config = {**MLP, **DATA[data], **SGD, "model.depth": 8, "model.width": 128, "model.activation": activation,
              "train.epochs": 100, **init, **options}  # fmt: skip
    tight = rule == "backprop" and activation == "tanh" and std >= 0.05  # a band of about half a point
    return Cell(f"{rule}-{activation}-{std:g}", config, figures, (0, 1, 2) if tight else (0,))


_DTP_SEEN = {"mnist": ", which are better throughout: 3.1 where 67.51 is printed", "fashion": ""}
"""What our runs say of it."""


def _table_1(data: str, title: str) -> PublishedTable:
    cells = [
        _table_1_cell(data, rule, activation, index)
        for rule in _TABLE_1[data] for activation in ("sigmoid", "tanh") for index in range(len(_STDS))
    ]  # fmt: skip
    return PublishedTable(
        f"lra-table1-{data}", f"LRA, table 1: 8x128 on {title}, test error in %, best of 100 epochs",
        "Ororbia et al. (2018), table 1", cells,
        note=f"Columns: unit, standard deviation of the initial weights. {_CONSTANT[data]:g} % is the error of "
        "always the same answer. SGD at .01, under LRA with tanh .003; under DTP Adam at .0004 for 30 epochs. "
        "Batches of 50, 50 000 images as pixels in [0, 1]. Published figures of DTP are with an optimizer of its own, "
        "which the source does not name (an adaptive rate, like RMSprop), and are not to be compared with ours under "
        f"Adam{_DTP_SEEN[data]}.",
    )  # fmt: skip


TABLES = (_table_1("mnist", "MNIST"), _table_1("fashion", "Fashion-MNIST"))
