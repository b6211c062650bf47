"""Ororbia, Mali, Kifer and Giles (2018), figures 2, 5 and 7: first epochs, depth of credit, angle to backprop."""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, PublishedTable, in_order
from benchmarks.accuracy.metrics import after, angle, angle_late, angle_most, depth, depth_rise, last
from benchmarks.published.lra import DATA, MLP, RATES, SGD, ZERO, fdbk

__all__ = ["TABLES"]

# Figure 2: steps towards a target, and the feedback matrix's deviation. The initial weights are in print, beta is not.

_FIGURE_2 = {**MLP, **DATA["mnist"], **SGD, "model.depth": 3, "model.width": 64, "model.activation": "tanh",
             "model.init": "fan_in", "train.epochs": 5}  # fmt: skip
_BETAS = (0.01, 0.1)


def _figure_2_cells(name: str, row: str, changes: Mapping[str, Any]) -> list[Cell]:
    """A cell for each beta."""
    return [
        Cell(f"{name}-beta-{beta:g}", {**_FIGURE_2, **changes, "rule.beta": beta},
             [Figure(row, f"beta {beta:g}, epoch {n}", after(n)) for n in (1, 5)], (0, 1, 2))
        for beta in _BETAS
    ]  # fmt: skip


def _diff(steps: int) -> list[Cell]:
    changes = {"rule.name": "lra_diff", "rule.steps": steps, "model.boundary": "half"}
    return _figure_2_cells(f"diff-{steps}", f"diff, K = {steps}", changes)


def _fdbk(std: float) -> list[Cell]:
    changes = {**fdbk("tanh"), "rule.error_std": std}
    return _figure_2_cells(f"fdbk-{std:g}", f"fdbk, E of deviation {std:g}", changes)


_FIGURE_2_TABLE = PublishedTable(
    "lra-figure2",
    "LRA, figure 2: 3x64 tanh on MNIST, test error in % after the first epochs",
    "Ororbia et al. (2018), figure 2: larger K better, fdbk about as K = 30",
    [cell for steps in (5, 10, 30, 50) for cell in _diff(steps)]
    + [cell for std in (1.0, 1.25, 1.5, 2.0) for cell in _fdbk(std)],
    [
        *(in_order(f"K = 30 is better than 10, and 10 than 5, at beta {beta:g}", f"beta {beta:g}, epoch 5",
                   [["diff, K = 30"], ["diff, K = 10"], ["diff, K = 5"]]) for beta in _BETAS),
        *(Check(f"fdbk is within a point of K = 30 at beta {beta:g}",
                [(("fdbk, E of deviation 1", f"beta {beta:g}, epoch 5"), ("diff, K = 30", f"beta {beta:g}, epoch 5"))],
                Band(-1.0, 1.0)) for beta in _BETAS),
    ],
    "Weights as printed: uniform in +-1/sqrt(fan-in), biases 0; SGD at .01, batches of 50, Cauchy loss. beta is not in "
    "print, and decides the figure. Medians over the seeds.",
)  # fmt: skip


# Figure 5: how deep credit goes.

_HALT = {"tanh": 1e-7, "sigmoid": 1e-6}
_FIGURE_5 = {**MLP, **DATA["mnist"], **SGD, **ZERO, "model.depth": 8, "model.width": 128, "train.epochs": 20}


def _depth_cell(activation: str) -> Cell:
    row = f"8x128 {activation}"
    figures = [
        Figure(row, "epoch 1", depth(1), None, Band(least=8.0)),
        *(Figure(row, f"epoch {n}", depth(n)) for n in (2, 5, 10, 20)),
        Figure(row, "largest rise from epoch 2 on", depth_rise, None, Band(most=0.1)),
        Figure(row, "test error, %", last),
    ]
    config = {**_FIGURE_5, **fdbk(activation), **RATES[activation], "model.activation": activation,
              "rule.halt": _HALT[activation]}  # fmt: skip
    return Cell(activation, config, figures)


_FIGURE_5_TABLE = PublishedTable(
    "lra-figure5",
    "LRA, figure 5: depth of credit, blocks updated per sample, 8x128 on MNIST",
    "Ororbia et al. (2018), figure 5: all blocks for some epochs, falling after about 5, towards 0 to 1 for tanh",
    [_depth_cell("tanh"), _depth_cell("sigmoid")],
    note="A sample halts where a block's loss is below 1e-7 (tanh) or 1e-6 (sigmoid) of the output's first mean loss: "
    "chosen so that epoch 1 credits every block, for the source gives no threshold. Under tanh hidden losses grow on "
    "the way down, so a sample that passes the topmost hidden block passes all, and they share one credit.",
)

# Figure 7: one angle over all parameters, at the start and where it settles.

_FIGURE_7 = {**MLP, **DATA["mnist"], "model.depth": 3, "model.width": 256, "model.activation": "tanh",
             "model.init": "normal", "model.init_std": 0.05, "train.batch_size": 50, "train.epochs": 30,
             "optimizer.name": "adam", "optimizer.lr": 2e-4, "measure.every": 10, "measure.accuracies": False,
             "measure.keep_weights": False}  # fmt: skip
_NOT_REPRODUCED = (
    "not reproduced: one angle over all parameters depends on how large the hidden updates are beside the last "
    "block's, hence on beta and the bound on displacements, which are not in print"
)


def _near(published: float | None) -> Band | None:
    return None if published is None else Band.around(published, 5.0)


def _angle_cell(row: str, changes: Mapping[str, Any], start: float | None, settled: float | None) -> Cell:
    figures = [
        Figure(row, "before training", angle(0), start, _near(start), _NOT_REPRODUCED),
        Figure(row, "epoch 10", angle(10)),
        Figure(row, "mean from epoch 20 on", angle_late(20), settled, _near(settled),
               _NOT_REPRODUCED),
        Figure(row, "most in any block from epoch 10 on", angle_most), Figure(row, "test error, %", last),
    ]  # fmt: skip
    return Cell(str(changes["rule.name"]), {**_FIGURE_7, **changes}, figures)


_FIGURE_7_TABLE = PublishedTable(
    "lra-figure7",
    "LRA, figure 7: angle between a rule's update and backpropagation's, 3x256 tanh on MNIST, degrees",
    "Ororbia et al. (2018), figure 7, read off: LRA-fdbk begins at 10 and settles at 38; FA and DFA are not in it",
    [_angle_cell("LRA-fdbk", fdbk("tanh"), 10.0, 38.0), _angle_cell("FA", {"rule.name": "fa"}, None, None),
     _angle_cell("DFA", {"rule.name": "dfa"}, None, None)],
    note="Weights from N(0, .05), as printed; Adam at 2e-4, batches of 50, beta .1, 30 epochs where 100 were printed.",
)  # fmt: skip

TABLES = (_FIGURE_2_TABLE, _FIGURE_5_TABLE, _FIGURE_7_TABLE)
