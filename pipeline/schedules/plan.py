"""Plans: the mode of every block in one epoch."""

from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["BlockMode", "Choice", "Plan"]


class BlockMode(Enum):
    """A block's treatment of a training batch."""

    TRAIN = "train"
    """Forward and learn."""
    FROZEN = "frozen"
    """Forward only, in evaluation mode: running statistics, no dropout."""
    IDLE = "idle"
    """Nothing; the batch stops below it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is known about the best epoch when one begins, by the validation set; see
    :mod:`pipeline.schedules.selection`."""

    best: int | None
    """Of the epochs before ``decided`` the one whose weights may still be wanted; None where none may."""
    decided: int
    """The first epoch about which nothing is known yet."""
    restore: int | None = None
    """The epoch whose weights are put back before this one, of the blocks that trained in it."""
    scores_test: bool = False
    """Nothing is learned: the test set is scored by the weights of ``best``, and the run ends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One epoch, for all blocks: the same object for every stage."""

    epoch: int
    modes: tuple[BlockMode, ...]
    lr_epochs: tuple[int, ...]
    """Epochs that each block has trained before this one: its position in the learning-rate schedule."""
    source: int = 0
    """The block at whose input the batches enter: 0 is the data set, k the kept outputs of block k - 1."""
    store: bool = False
    """The training block's inputs are kept this epoch, for the epochs after it."""
    evaluate: bool = True
    """The test set follows the training set, or the validation set where there is one."""
    choice: Choice | None = None
    """None where no epoch is chosen: there is no validation set."""

    @property
    def scores_test(self) -> bool:
        """It is the last one of a run whose epochs were chosen."""
        return self.choice is not None and self.choice.scores_test

    @property
    def top(self) -> int:
        """The last block that is not idle; batches go no further."""
        return max(i for i, mode in enumerate(self.modes) if mode is not BlockMode.IDLE)

    def forward_only(self, top: int, source: int) -> "Plan":
        """A plan that learns nothing and keeps the inputs of block ``top``, of batches that enter at ``source``."""
        modes = [BlockMode.FROZEN if k <= top else BlockMode.IDLE for k in range(len(self.modes))]
        return replace(self, modes=tuple(modes), source=source, store=True)

    def active(self, blocks: range) -> range:
        """Those of ``blocks`` that a batch passes through this epoch."""
        return range(max(blocks.start, self.source), min(blocks.stop, self.top + 1))

    def goes_beyond(self, blocks: range) -> bool:
        """A batch of this epoch leaves the last of ``blocks`` for the block above."""
        return self.top >= blocks.stop
