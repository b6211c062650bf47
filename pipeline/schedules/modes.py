"""The modes of training, a row each: the one place that knows them by name.

A new mode is a row here and, where it brings one, a file with its schedule or its order of actions. Everything else
asks the row: ``RunSpec.mode``. Imports no torch: the command line lists the modes before that is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.registry import nearest
from pipeline.schedules.actions import Order, one_f_one_b, stream
from pipeline.schedules.schedule import Parallel, Schedule, Sequential
from pipeline.schedules.wave import gated

__all__ = ["MODES", "InFlightLimit", "Mode", "Rules", "find_mode"]


class Rules(Enum):
    """Learning rules that a mode runs."""

    ANY = "any"
    LOCAL = "local"
    """Rules that need nothing from the blocks above; others are refused."""
    BACKWARD = "backward"
    """Rules with a backward pass of their own; in place of others, backprop: a comparison changes one word."""
    BACKPROP = "backprop"
    """Backprop in place of whatever the config names."""


class InFlightLimit(Enum):
    """Batches that a block may have sent on and not yet learned from."""

    CONFIGURED = "configured"
    """``train.in_flight``, where the rule waits for feedback."""
    FLUSHED = "flushed"
    """One: its optimizer step ends each batch."""
    BY_STAGE = "by stage"
    """As many as there are stages from the block's own to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One way to train."""

    name: str
    summary: str
    """A line for ``--list``."""
    schedule: Callable[[Config, int, bool], Schedule] = Parallel.of
    """From the config, the number of blocks and whether the outputs of frozen blocks are kept."""
    order: Order | None = None
    """The order of actions inside an epoch; None: the one that holds the least, see :func:`batching_of`."""
    rules: Rules = Rules.ANY
    in_flight: InFlightLimit = InFlightLimit.CONFIGURED
    microbatches: int = 1
    """Parts of a batch where ``train.microbatches`` is 0."""
    is_one_stage: bool = False
    """Runs in one process, whatever the number of stages asked for."""
    is_predictable: bool = True
    """A dry run can tell its speed: every epoch does the same, whatever was learned before."""
    is_gated: bool = False
    """Blocks take the part of their steps that ``[gate]`` says."""

    def goes_block_by_block(self, config: Config) -> bool:
        """Blocks learn before those above them have begun: rules must need nothing from there."""
        return self.rules is Rules.LOCAL or (self.is_gated and not config.gate.measures)


MODES: tuple[Mode, ...] = (
    Mode(name="parallel", summary="every block trains, from the first batch on"),
    Mode(
        name="sequential", summary="one block after another, each until its loss has converged, then frozen",
        schedule=Sequential.of, rules=Rules.LOCAL, is_predictable=False,
    ),
    Mode(
        name="gated", summary="each block takes a part of its steps, by a wave or by how far its input still moves",
        schedule=gated, is_predictable=False, is_gated=True,
    ),
    Mode(
        name="backprop", summary="the baseline: backpropagation in one process",
        rules=Rules.BACKPROP, in_flight=InFlightLimit.FLUSHED, is_one_stage=True,
    ),
    Mode(
        name="gpipe", summary="backpropagation, all micro-batches forward, then all back (Huang et al. 2019)",
        order=stream, rules=Rules.BACKWARD, in_flight=InFlightLimit.FLUSHED, microbatches=4,
    ),
    Mode(
        name="1f1b", summary="backpropagation, one micro-batch forward, one back, flushed (Narayanan et al. 2019)",
        order=one_f_one_b, rules=Rules.BACKWARD, in_flight=InFlightLimit.FLUSHED, microbatches=4,
    ),
    Mode(
        name="pipedream", summary="backpropagation without a flush, on stashed weights (Harlap et al. 2018)",
        rules=Rules.BACKWARD, in_flight=InFlightLimit.BY_STAGE,
    ),
)  # fmt: skip
"""In the order in which they are listed; the first is the default."""


def find_mode(name: str) -> Mode:
    """The row of ``name``.

    Raises:
        ConfigError: no mode has that name.
    """
    names = [mode.name for mode in MODES]
    if name not in names:
        raise ConfigError(
            f"unknown mode (given: schedule.mode {name!r}, expected: {', '.join(names)}). "
            f"{nearest(name, names)}See launch.py --list."
        )
    return MODES[names.index(name)]
