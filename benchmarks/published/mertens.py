"""Dennis A. Mertens' notebook on local propagation by linear unprojections (2023): signed xor."""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, PublishedTable
from benchmarks.accuracy.metrics import last, test_loss, train_loss

__all__ = ["TABLES"]

_BASE = {
    "model.name": "mlp", "model.width": [100, 100, 10], "model.activation": "mish", "model.norm": "l2",
    "dataset.name": "signed_xor", "train.batch_size": 1000, "rule.name": "linear_decoder",
    "optimizer.name": "rprop", "optimizer.lr": 0.01,
}  # fmt: skip
_SEQUENTIAL = {"schedule.mode": "sequential", "schedule.patience": 50, "schedule.tolerance": 0.0, "train.epochs": 50}
_PARALLEL = {"schedule.mode": "parallel", "train.epochs": 200}
_EQUAL = {**_PARALLEL, "train.epochs": 50}
"""As many updates of each block as in a sequential run; 200 epochs are as many rounds as all its blocks take."""
_FIXED = {"rule.decoder": "fixed"}
_TRAINED = {"rule.decoder": "trained"}
_NOTEBOOK = {"optimizer.name": "sign_sgd"}
_SEEDS = tuple(range(20))


def _arm(
    name: str, row: str, changes: Mapping[str, Any], published: tuple[float, float] | None = None,
    error: Band | None = None, loss: Band | None = None,
) -> Cell:  # fmt: skip
    """An arm and its three figures; ``published`` are the losses on training and test points."""
    train, test = published or (None, None)
    figures = [
        Figure(row, "test error, %", last, None, error), Figure(row, "test BCE", test_loss, test, loss),
        Figure(row, "train BCE", train_loss, train),
    ]  # fmt: skip
    return Cell(name, {**_BASE, **changes}, figures, _SEEDS, limit_s=300.0)


_ROUNDS = "parallel, trained decoders, Rprop of each block"
_SEQUENTIALLY = "sequential, trained decoders, 50 epochs a block"


def _trails(at: str, row: str) -> Check:
    return Check(f"parallel training trails sequential training by at most a point of accuracy, at {at}",
                 [((row, "test error, %"), (_SEQUENTIALLY, "test error, %"))], Band(most=1.0))  # fmt: skip


_MERTENS = PublishedTable(
    "mertens",
    "Mertens: signed xor, 2-100-100-10-1, medians over 20 seeds",
    "Dennis A. Mertens, notebook on local propagation by linear unprojections (2023), its one seed",
    [
        _arm("backprop", "backprop, 100 epochs",
             {"rule.name": "backprop", "schedule.mode": "backprop", "train.epochs": 100}, (0.0001, 0.0055)),
        _arm("sequential-trained", _SEQUENTIALLY,
             {**_SEQUENTIAL, **_TRAINED}, error=Band(most=1.5)),
        _arm("sequential-fixed", "sequential, fixed decoders, 50 epochs a block (the notebook's)",
             {**_SEQUENTIAL, **_FIXED}, (0.0137, 0.0368)),
        _arm("parallel-fixed-notebook", "parallel, fixed decoders, steps that never adapt (the notebook's)",
             {**_PARALLEL, **_FIXED, **_NOTEBOOK}, (0.1429, 0.1572), loss=Band(0.12, 0.30)),
        _arm("parallel-fixed", "parallel, fixed decoders, Rprop of each block", {**_PARALLEL, **_FIXED},
             loss=Band(most=0.10)),
        _arm("parallel-trained", f"{_ROUNDS}, 200 epochs", {**_PARALLEL, **_TRAINED}),
        _arm("parallel-trained-50", f"{_ROUNDS}, 50 epochs", {**_EQUAL, **_TRAINED}),
    ],
    [
        _trails("equal rounds (four times the updates of each block)", f"{_ROUNDS}, 200 epochs"),
        _trails("equal updates of each block (a quarter of the rounds)", f"{_ROUNDS}, 50 epochs"),
    ],
    "The notebook's parallel run shares one Rprop between all layers, whose steps then never adapt: sign descent. "
    "Here blocks read activations from before the update of the blocks below, there from after it.",
)  # fmt: skip

TABLES = (_MERTENS,)
