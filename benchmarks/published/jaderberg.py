"""Jaderberg et al., synthetic gradients (2017): fully connected nets on MNIST, 3 to 6 layers deep."""

from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Figure, PublishedTable, in_order
from benchmarks.accuracy.metrics import best

__all__ = ["TABLES"]

_BASE = {
    "model.name": "mlp", "model.activation": "relu", "model.norm": "batch", "model.width": 256,
    "dataset.name": "mnist", "optimizer.name": "adam", "optimizer.lr": 1e-3, "optimizer.milestones": [10, 15],
    "train.batch_size": 128, "train.epochs": 20,
}  # fmt: skip
_ARMS: dict[str, dict[str, Any]] = {
    # A model that never moves from 0 leaves every block below the top as it began.
    "top layer only": {"rule.name": "dni", "rule.layers": 0, "rule.synthesiser_rate": 1e-30},
    "backprop": {"rule.name": "backprop"},
    "DNI": {"rule.name": "dni", "rule.conditioned": False},
    "DNI at 1e-4": {"rule.name": "dni", "rule.conditioned": False, "optimizer.lr": 1e-4},
    "cDNI": {"rule.name": "dni"},
}
_PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "top layer only": (9.3, 12.6, 16.2, 21.4), "backprop": (2.0, 1.8, 1.8, 1.8), "DNI": (1.9, 2.2, 3.4, 4.3),
    "DNI at 1e-4": (None,) * 4, "cDNI": (2.2, 1.9, 1.7, 1.6),
}  # fmt: skip
_DEPTHS = (3, 4, 5, 6)
_LATE = (4, 16)
"""Batches in flight: a model learns from a gradient that is so many batches old, less one."""


def _cell(depth: int, arm: str, published: float | None) -> Cell:
    """A net of ``depth`` layers, the output's among them, each a block with an interface behind it."""
    config = {**_BASE, "model.depth": depth - 1, **_ARMS[arm]}
    band = Band(most=3.5) if arm == "cDNI" else None
    figure = Figure(arm, f"{depth} layers", best, published, band)
    return Cell(f"{depth}-{arm.replace(' ', '-')}".lower(), config, [figure], seeds=(0, 1, 2))


def _late_cell(in_flight: int) -> Cell:
    """The deepest net, whose models learn late."""
    config = {**_BASE, "model.depth": 5, **_ARMS["cDNI"], "train.in_flight": in_flight}
    figure = Figure(f"cDNI, {in_flight} batches in flight", "6 layers", best)
    return Cell(f"6-cdni-{in_flight}-in-flight", config, [figure], seeds=(0, 1, 2))


TABLES = (
    PublishedTable(
        "dni",
        "Synthetic gradients on MNIST, test error in % (best of 20 epochs)",
        "Jaderberg et al. (2017), Table 1, from memory",
        [*(_cell(depth, arm, _PUBLISHED[arm][k]) for arm in _ARMS for k, depth in enumerate(_DEPTHS)),
         *map(_late_cell, _LATE)],
        [in_order(f"cDNI is within a point of backprop at {depth} layers", f"{depth} layers", [["cDNI"], ["backprop"]],
                  1.0) for depth in _DEPTHS]
        + [in_order(f"DNI is better than a net whose top layer alone learns, at {depth} layers", f"{depth} layers",
                    [["DNI"], ["top layer only"]]) for depth in _DEPTHS],
        "Theirs is trained for 500 000 steps of 256 samples by Adam at 3e-5, with models of two layers of 1024; ours "
        "for 20 epochs, 9 380 steps of 128, by Adam at 1e-3, with two layers of 256. Every layer is a block with an "
        "interface behind it. What is printed of DNI is not reproduced: models that do not see the labels fall behind "
        "nets that move at this rate, and from four layers on they are worse than no learning below the top; at a "
        "tenth of the rate they are better than that, and still far behind what is printed.",
    ),
)  # fmt: skip
