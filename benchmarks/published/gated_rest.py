"""Blocks that come to rest and learn no more: updates saved against accuracy lost, beside plain parallel training."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.accuracy.by_block import at_round, block_error, updates_saved
from benchmarks.accuracy.cell import Cell, Contrast, Figure, PublishedTable
from benchmarks.published.gated import PARALLEL, SOURCE, gate, mlp

__all__ = ["ERROR", "SAVED", "TABLES"]

SAVED, ERROR = "updates saved, %", "18 rounds"
_FALLING = {"optimizer.milestones": [9, 14]}
"""Else steps never become smaller, and nothing comes to rest."""
_THRESHOLDS = {"pred": (0.01, 0.02, 0.03, 0.04, 0.06, 0.08), "linear": (0.01, 0.02, 0.04, 0.08)}
_SEEDS = (0, 1, 2)


def _arms(rule: str) -> dict[str, Mapping[str, Any]]:
    """Parallel training, in which blocks come to rest, and one triggered wave of which they do."""
    whole = {"tau": 1e30, "memory": 0.5}
    arms: dict[str, Mapping[str, Any]] = {
        PARALLEL: {"schedule.mode": "parallel"},
        **{f"rest {least}": gate("G2", rest=least, **whole) for least in _THRESHOLDS[rule]},
    }
    if rule == "pred":
        arms["G4, tau 0.1, rest 0.04"] = gate("G4", tau=0.1, memory=0.5, rest=0.04)
    return arms


def _cells() -> Iterator[Cell]:
    for rule in _THRESHOLDS:
        net = mlp(8, 128, 2, rule, "Adam")
        for arm, changes in _arms(rule).items():
            row = f"{rule}, {arm}"
            figures = [
                Figure(row, SAVED, updates_saved), Figure(row, ERROR, at_round(net.rounds)),
                *(Figure(row, f"block {k}", block_error(k)) for k in range(net.blocks)),
            ]  # fmt: skip
            config = {**net.config, **_FALLING, "train.epochs": net.rounds, **changes}
            name = row.replace(", ", "-").replace(" ", "-").replace("tau-", "").lower()
            yield Cell(name, config, figures, _SEEDS, limit_s=1800.0, by_block=True)


def _contrasts() -> Iterator[Contrast]:
    for rule in _THRESHOLDS:
        for arm in _arms(rule):
            if arm != PARALLEL:
                yield Contrast("at 18 rounds", (f"{rule}, {arm}", ERROR), (f"{rule}, {PARALLEL}", ERROR))


TABLES = (
    PublishedTable(
        "gated-rest",
        "Blocks that come to rest: MLP 8x128 on MNIST, updates saved and test error in %, medians over 3 seeds",
        SOURCE, list(_cells()),
        note="A block whose output drifts less than gate.rest between two probes learns no more, for good: no "
        "derivatives, no optimizer step, and its forward pass in evaluation mode. Updates saved: the share of all "
        "steps that blocks did not take. Adam at 5e-4, a quarter of that from epochs 9 and 14 on; the probe is 128 "
        "samples every 50 steps, gate.memory = 0.5. 15 000 training samples, 18 epochs, without normalisation. rest: "
        "all blocks learn from the first step on, with whole steps (G2, tau = 1e30); G4: each from its start.",
        contrasts=list(_contrasts()),
    ),
)  # fmt: skip
