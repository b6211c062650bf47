"""The optimizer of each block of a run, where they are not all stepped alike."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec

__all__ = ["BlockOptimizer", "BlockOptimizers"]


@dataclass(frozen=True)
class BlockOptimizer:
    """How the parameters of a block are stepped."""

    optimizer: OptimizerSpec
    lr: LrSchedule


BlockOptimizers = Mapping[int, BlockOptimizer]
"""By block; frozen ones have none."""
