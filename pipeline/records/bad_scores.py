"""Losses of evaluations that are nan or infinite: the samples have such numbers, or the network gives them."""

import logging
import math
from collections.abc import Sequence
from typing import Literal

from pipeline.errors import NonFiniteError
from pipeline.records.reports import BlockScores, NonFinite
from pipeline.schedules.plan import Plan

__all__ = ["BadScores"]

logger = logging.getLogger(__name__)


class BadScores:
    """Looks at the losses of each finished epoch; they are here already, so it costs nothing.

    Args:
        stops: one that is not finite ends the run, as one of training does; else it is told, once.
    """

    def __init__(self, *, stops: bool) -> None:
        self._stops = stops
        self._is_told = False

    def look(
        self, plan: Plan, blocks: Sequence[BlockScores], step: int, last_good: str | None, *, goes_on: bool
    ) -> None:
        """Looks at an evaluation; where training is over it only tells: these weights are learned, and there is nothing
        to stop.

        Args:
            plan: of the epoch.
            blocks: scores of its active blocks, by all stages.
            step: of the run, the epoch's last one.
            last_good: see :class:`NonFiniteError`.
            goes_on: blocks train behind it.

        Raises:
            NonFiniteError: one is not finite, of the lowest block among several.
        """
        epoch = plan.choice.best if plan.choice is not None and plan.scores_test else plan.epoch
        found = next((bad for block in blocks if (bad := _bad(block, step, epoch or 0)) is not None), None)
        if found is None:
            return
        if self._stops and goes_on:
            raise NonFiniteError(found, last_good)
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "the %s of block %d is %s after epoch %d (from 0): look for such numbers in these samples; said once",
                found["what"].replace("_", " "), found["block"], found["value"], found["epoch"],
            )  # fmt: skip


def _bad(block: BlockScores, step: int, epoch: int) -> NonFinite | None:
    """The first loss of a block that is not finite."""
    if _is_bad(value := block.get("validation_loss")):
        what: Literal["validation_loss", "test_loss"] = "validation_loss"
    elif _is_bad(value := block["test_loss"]):
        what = "test_loss"
    else:
        return None
    return {
        "block": block["block"], "epoch": epoch, "step": step, "since": step, "what": what, "name": "",
        "value": str(value),
    }  # fmt: skip


def _is_bad(loss: float | None) -> bool:
    return loss is not None and not math.isfinite(loss)
