"""Nøkland and Eidnes (2019) on two cores: do residual nets do less well under local losses than plain ones?"""

from typing import Any

from benchmarks.accuracy.cell import Cell, Check, PublishedTable
from benchmarks.published.nokland_eidnes import GLOB, JPEG, PRED, PREDSIM, SIM, course, row_cells

__all__ = ["TABLES"]

_COLUMNS = {column: (None, None) for column in (GLOB, PRED, SIM, PREDSIM)}
_FEW = {"dataset.train_samples": 10_000, "train.batch_size": 64, "run.matmul_precision": "medium",
        "run.channels_last": True}  # fmt: skip
_POOLED = {"rule.dimdec": 2048}
_VGG, _RESNET = "VGG8B, a quarter", "ResNet-18, a quarter"


def _cells(row: str, net: dict[str, Any]) -> list[Cell]:
    return row_cells(row, _COLUMNS, {**net, "model.width": 0.25}, JPEG, course(10), _FEW, rule=_POOLED, device="cpu")


def _gap(column: str) -> Check:
    """Reported only: how much worse than backprop a local loss is on each net."""
    return Check(f"{column} less glob, on VGG8B and on ResNet-18",
                 [((row, column), (row, GLOB)) for row in (_VGG, _RESNET)], None)  # fmt: skip


TABLES = (
    PublishedTable(
        "nokland-eidnes-thin",
        "Nøkland and Eidnes: a thin residual net beside a thin plain one, CIFAR-10 re-encoded as JPEG, test error in %",
        "Nøkland and Eidnes (2019): the text says that residual nets do less well, without figures",
        [*_cells(_VGG, {"model.name": "vgg8b"}), *_cells(_RESNET, {"model.name": "resnet18"})],
        [_gap(column) for column in (PRED, SIM, PREDSIM)],
        "Both at a quarter of their channels, without dropout. Reduced for two cores: 10 000 training pictures, 10 "
        "epochs in batches of 64, the rate falling at a half, 75 and 89 % of them. A residual block is a pair of "
        "convolutions with the shortcut around it, where the published code gives each convolution a loss of its own.",
    ),
)  # fmt: skip
