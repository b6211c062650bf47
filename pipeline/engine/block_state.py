"""The state of one block at a cut: everything that its next steps depend on, as tensors and plain facts.

Weights, buffers and matrices of the rule by the names of its ``state_dict``; beside them, under names with a slash,
the optimizer's state and, of an epoch that is not over, the training losses and what recurrent layers carry. No random
state: there is none. Whatever else a rule keeps must be a function of the epoch, set by its ``begin_epoch``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.engine.kept import restore_kept
from pipeline.engine.stage import Stage
from pipeline.errors import ConfigError
from pipeline.network.recurrent import carried_in
from pipeline.records.snapshots import CARRIED, KEPT, OPTIMIZER, SCORES, is_weight

__all__ = ["BlockState", "capture", "restore", "restore_scores", "version"]


@dataclass(frozen=True)
class BlockState:
    """What a file of a snapshot holds."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    """What JSON can hold."""


def capture(stage: Stage, block: int, *, inside_epoch: bool) -> BlockState:
    """The state of a block, its tensors still the stage's own.

    Args:
        stage: hosts the block.
        block: its index.
        inside_epoch: the losses of the epoch belong to it: the cut is not the one between two epochs.

    Raises:
        RuntimeError: a micro-batch waits for feedback, so that this is no cut.
    """
    if len(stage.in_flight) > 0:
        raise RuntimeError(
            f"block {block} cannot be written down while {len(stage.in_flight)} micro-batches wait for feedback. "
            "This is an error in Onward."
        )
    optimizer = {OPTIMIZER + name: value for name, value in stage.stepper.capture(block).items()}
    scores = stage.evaluation.scores.get(block) if inside_epoch else None
    tensors = {
        **stage.state(block),
        **{name: value for name, value in optimizer.items() if isinstance(value, Tensor)},
        **({SCORES + name: value for name, value in scores.capture().items()} if scores is not None else {}),
        **{
            f"{KEPT}{epoch}/{name}": value
            for epoch, states in stage.evaluation.kept.items() for name, value in states.get(block, {}).items()
        },
    }  # fmt: skip
    if inside_epoch:
        carried = carried_in(stage.rules[block])
        tensors |= {CARRIED + name: held.state for name, held in carried if held.state is not None}
    plain = {name: value for name, value in optimizer.items() if not isinstance(value, Tensor)}
    return BlockState(tensors, {"optimizer": plain, "staleness": stage.staleness.capture(block)})


def version(stage: Stage, block: int, *, inside_epoch: bool) -> tuple[int, ...]:
    """Equal for two states of a block that are the same: its updates, those of this epoch, the epoch's losses, and the
    batches that it left out, which may have brought none."""
    scores = stage.evaluation.scores.get(block) if inside_epoch else None
    updates = stage.staleness.versions[block], sum(stage.staleness.capture(block)["epoch"])
    kept = [epoch for epoch, states in stage.evaluation.kept.items() if block in states]
    counts = (scores.num_losses, scores.num_skipped) if scores is not None else (0, 0)
    return *updates, stage.stepper.version(block), *counts, *kept


def restore(stage: Stage, block: int, state: BlockState) -> None:
    """Puts a block into ``state``, before the stage has begun an epoch; see :func:`restore_scores`.

    Raises:
        ConfigError: the block is another one than the state was taken from.
    """
    try:
        stage.rules[block].load_state_dict({name: t for name, t in state.tensors.items() if is_weight(name)})
        optimizer = {**state.tensors, **state.facts["optimizer"]}
        stage.stepper.restore(block, _under(OPTIMIZER, optimizer))
        restore_kept(stage, block, _under(KEPT, state.tensors))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the snapshot does not fit block {block} ({str(error).splitlines()[-1].strip()}). "
            "Resume with the config of that run."
        ) from None
    stage.staleness.restore(block, state.facts["staleness"])
    kept = _under(CARRIED, state.tensors)
    for name, held in carried_in(stage.rules[block]):
        held.state = kept[name].to(stage.device, copy=True) if name in kept else None


def restore_scores(stage: Stage, block: int, state: BlockState) -> None:
    """Puts back the losses and the lateness of the epoch that the stage has begun, inside which the cut lies."""
    stage.staleness.restore(block, state.facts["staleness"])
    scores = stage.evaluation.scores.get(block)
    if scores is not None:
        scores.restore(_under(SCORES, state.tensors))


def _under(prefix: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Entries whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)}
