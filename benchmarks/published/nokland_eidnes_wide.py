"""Nøkland and Eidnes (2019), the wide nets of table 4, and table 6 (CIFAR-100): for a GPU and many hours."""

from collections.abc import Mapping
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, PublishedTable
from benchmarks.published.nokland_eidnes import CIFAR, GLOB, PRED, PREDSIM, SIM, course, row_cells, vgg

__all__ = ["TABLES"]

_COLUMNS = (GLOB, PRED, SIM, PREDSIM)
_SLOW = {"optimizer.lr": 3e-4}
_CIFAR_100 = {**CIFAR, "dataset.name": "cifar100"}
_FEW = {"train.classes_per_batch": 20, "train.classes_until_epoch": 200}
"""The published sampler, where a similarity is learned."""
_DIMDEC = {"rule.dimdec": 4096}


def _cells(row: str, published: tuple[float, float, float, float], *parts: Mapping[str, Any], few: bool) -> list[Cell]:
    columns = {column: (figure, None) for column, figure in zip(_COLUMNS, published, strict=True)}
    mlp = row.startswith("MLP")
    return row_cells(row, columns, *parts, course(400), rule=None if mlp else _DIMDEC, similar=_FEW if few else None)


def _wide(factor: float, dropout: float) -> dict[str, Any]:
    return {**vgg("vgg11b", dropout), "model.width": factor, **_SLOW}


def _mlp(dropout: float) -> dict[str, Any]:
    return {"model.name": "mlp", "model.depth": 3, "model.width": 3000, "model.dropout": dropout}


def _better(row: str) -> Check:
    return Check(f"{row}: predsim is better than backprop", [((row, PREDSIM), (row, GLOB))], Band(most=0.0))


_RESIDUAL = vgg("resnet18", 0.0)

TABLES = (
    PublishedTable(
        "nokland-eidnes-cifar10-wide",
        "Nøkland and Eidnes, table 4: wide nets on CIFAR-10, test error in %, 400 epochs, for a GPU",
        "Nøkland and Eidnes (2019), table 4",
        [
            *_cells("VGG11B 2x", (4.91, 7.30, 6.66, 4.42), _wide(2.0, 0.25), CIFAR, few=False),
            *_cells("VGG11B 3x", (5.02, 7.37, 9.34, 3.97), _wide(3.0, 0.3), CIFAR, few=False),
            *row_cells("ResNet-18", {column: (None, None) for column in (GLOB, SIM, PREDSIM)}, _RESIDUAL, CIFAR,
                       course(400), rule={"rule.dimdec": 2048}),
        ],
        [_better("VGG11B 2x"), _better("VGG11B 3x")],
        "The figure of sim for VGG11B 3x has a footnote in print: an unstable run. ResNet-18 is not in the tables: the "
        "text says that residual nets do less well.",
    ),
    PublishedTable(
        "nokland-eidnes-cifar100",
        "Nøkland and Eidnes, table 6: CIFAR-100, test error in %, 400 epochs, for a GPU",
        "Nøkland and Eidnes (2019), table 6",
        [
            *_cells("MLP 3x3000", (62.57, 58.87, 62.46, 56.88), _mlp(0.025), _CIFAR_100, few=True),
            *_cells("VGG8B", (26.24, 29.32, 32.64, 24.07), vgg("vgg8b", 0.05), _CIFAR_100, few=True),
            *_cells("VGG11B", (25.18, 29.58, 30.82, 24.05), vgg("vgg11b", 0.05), _CIFAR_100, few=True),
            *_cells("VGG11B 2x", (23.44, 26.91, 28.03, 21.20), _wide(2.0, 0.1), _CIFAR_100, few=True),
            *_cells("VGG11B 3x", (23.69, 25.90, 28.01, 20.13), _wide(3.0, 0.15), _CIFAR_100, few=True),
        ],
        [_better(row) for row in ("MLP 3x3000", "VGG8B", "VGG11B", "VGG11B 2x", "VGG11B 3x")],
        "sim and predsim draw batches of about 20 classes for 200 epochs.",
    ),
)  # fmt: skip
