"""States of a stage's blocks after epochs that may still be chosen; which they are, each plan says.

Copies in the memory of the blocks' own device, made between two epochs: one for the best epoch that is known, and one
for each epoch about which nothing is known yet. A snapshot holds them too, so that a run can be taken up.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from pipeline.engine.stage import Stage
from pipeline.records.reports import BlockScores
from pipeline.schedules.plan import BlockMode, Plan

__all__ = ["as_validation", "begin_choice", "chosen", "final_state", "keep", "restore_kept"]


def keep(stage: Stage, plan: Plan) -> None:
    """Copies the blocks that have trained in an epoch that was scored."""
    if plan.choice is None or not plan.evaluate:
        return
    if trained := _trained(stage, plan):
        stage.evaluation.kept[plan.epoch] = trained


def begin_choice(stage: Stage, plan: Plan, *, goes_on: bool = False, has_begun: bool = False) -> None:
    """Puts blocks into the state that an epoch asks for, before it begins, and lets go of what will not be chosen.

    Args:
        stage: the blocks.
        plan: of the epoch.
        goes_on: the run is taken up in it.
        has_begun: it is taken up inside it, from a snapshot that has the blocks as they were put back.
    """
    if (choice := plan.choice) is None:
        return
    kept = stage.evaluation.kept
    if goes_on and not has_begun and plan.epoch > 0:  # a run that had ended has no copy of weights that were its last
        kept.setdefault(plan.epoch - 1, _trained(stage, plan))
    if choice.restore is not None and not has_begun:
        for k, state in kept.get(choice.restore, {}).items():
            stage.rules[k].load_state_dict(state)
    for epoch in [e for e in kept if e < choice.decided and e != choice.best]:
        del kept[epoch]


@contextmanager
def chosen(stage: Stage, plan: Plan) -> Iterator[None]:
    """The blocks in the state that was chosen, for as long as the test set is scored; afterwards as they were.

    Args:
        stage: the blocks. What is not chosen is let go.
        plan: the last one.
    """
    assert plan.choice is not None
    kept, restore = stage.evaluation.kept, plan.choice.restore
    last = {k: _copied(stage.state(k)) for k in kept[restore]} if restore in kept else {}
    begin_choice(stage, plan)
    if restore is None:  # they are in that state
        kept.clear()
    stage.begin(plan)
    for rule in stage.rules.values():
        rule.begin_epoch(plan.choice.best or 0)
    try:
        yield
    finally:
        for k, state in last.items():
            stage.rules[k].load_state_dict(state)


def final_state(stage: Stage, block: int) -> dict[str, Tensor]:
    """The state of a block in the network that a run ends with: the one that was chosen, or its own."""
    kept = (states[block] for states in stage.evaluation.kept.values() if block in states)
    return next(kept, stage.state(block))


def restore_kept(stage: Stage, block: int, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what a snapshot holds. Args: tensors, by epoch and name, ``7/block.body.0.weight``."""
    device = stage.device
    for name, tensor in tensors.items():
        epoch, _, rest = name.partition("/")
        stage.evaluation.kept.setdefault(int(epoch), {}).setdefault(block, {})[rest] = tensor.to(device)


def as_validation(row: BlockScores) -> BlockScores:
    """A block's row of an epoch in which the validation set was scored, and not the test set."""
    found: BlockScores = {
        **row, "test_accuracy": None, "test_loss": None,
        "validation_accuracy": row["test_accuracy"], "validation_loss": row["test_loss"],
    }  # fmt: skip
    if "test_metrics" in found:
        found["validation_metrics"] = found.pop("test_metrics")
    return found


def _trained(stage: Stage, plan: Plan) -> dict[int, dict[str, Tensor]]:
    """Copies of the blocks that train in an epoch."""
    trained = [k for k in plan.active(stage.blocks) if plan.modes[k] is BlockMode.TRAIN]
    return {k: _copied(stage.state(k)) for k in trained}


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.clone(tensor) for name, tensor in state.items()}
