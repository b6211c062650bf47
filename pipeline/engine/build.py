"""Builds rules on a device and stages from them, the same for a run, its measurements and the costs of its blocks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch

from pipeline.engine.autocast_stage import AutocastStage
from pipeline.engine.gate_forms import gate_of
from pipeline.engine.gated_stepper import GatedStepper, portions_of
from pipeline.engine.mixed_program import MixedProgram, listeners
from pipeline.engine.mixed_stage import MixedAutocastStage, MixedStage
from pipeline.engine.probing import ProbingProgram
from pipeline.engine.program import Program
from pipeline.engine.publishing import PublishingProgram
from pipeline.engine.replica_program import ReplicaProgram
from pipeline.engine.stage import Stage
from pipeline.engine.wires import WireProgram, round_inside, wires_of
from pipeline.learning.rule import LearningRule
from pipeline.network.block import Blueprint
from pipeline.resolve import RunSpec, build_rule
from pipeline.schedules.replicas import Replicas

__all__ = ["build_rules", "build_stage", "program_of"]


def build_rules(
    resolved: RunSpec, blueprints: Sequence[Blueprint], blocks: range, device: torch.device
) -> list[LearningRule]:
    """Blocks under their rules, in their initial state, on ``device`` and in the run's memory format.

    Args:
        resolved: the run.
        blueprints: of ``blocks``, in order.
        blocks: their indices in the whole network.
        device: where to build them.
    """
    rules = []
    for k, blueprint in zip(blocks, blueprints, strict=True):
        rule = build_rule(resolved.config, blueprint, resolved.specs[k])
        if resolved.initial is not None:
            resolved.initial.fill(rule)
        rules.append(rule.to(device))
    if resolved.config.run.channels_last:
        for rule in rules:
            rule.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return rules


def build_stage(
    resolved: RunSpec, rules: Sequence[LearningRule], blocks: range, device: torch.device,
    *, batch_size: int, stash: bool, learn_after: Literal["block", "stage"],
) -> Stage:  # fmt: skip
    """The stage of ``rules``; see :class:`Stage` for the arguments that are not the run's."""
    config = resolved.config
    plain, routes = config.run.autocast == "none", resolved.routes
    make: Callable[..., Stage] = Stage if plain else AutocastStage
    if routes is not None:
        make = partial(MixedStage if plain else MixedAutocastStage, routes)
    stage = make(
        rules, blocks, resolved.num_blocks,
        optimizer=resolved.block_optimizers or resolved.optimizer, lr=resolved.lr, seed=config.seed,
        batch_size=batch_size, device=device,
        stash=stash, learn_after=learn_after, channels_last=config.run.channels_last,
        nonfinite=config.train.nonfinite,
    )  # fmt: skip
    if (gate := gate_of(resolved, stage.rules)) is not None:
        inner = portions_of(stage.rules, resolved.block_optimizers or resolved.optimizer, resolved.lr)
        stage.stepper = GatedStepper(inner, gate)
    if (wires := wires_of(resolved)) is not None:
        round_inside(stage, wires)
    if isinstance(stage, MixedStage):
        stage.watch_inputs()
    return stage


class _WireReplicaProgram(WireProgram, ReplicaProgram):
    """Both: replicas that send to other stages in a wire format, and gradients to each other as they are."""


class _WireMixedProgram(WireProgram, MixedProgram):
    """Both: activations in a wire format, feedback as it is."""


class _WirePublishingProgram(WireProgram, PublishingProgram):
    """Both: activations travel in a wire format, what is published as it is."""


class _WireProbingProgram(WireProgram, ProbingProgram):
    """Both: the probe travels in a wire format, as batches do."""


def program_of(
    resolved: RunSpec, partition: Sequence[range], replicas: Replicas | None = None, replica: int = 0, *,
    publishes: bool = True,
) -> Callable[..., Program]:
    """What makes the run's programs; see :class:`Program` for the arguments.

    Args:
        resolved: the run.
        partition: blocks of each stage.
        replicas: processes of each stage; None for one each.
        replica: of the process, in its stage.
        publishes: False where the program is not walked through from a run's start to its end.
    """
    plain: type[Program]
    wired: type[WireProgram]
    own: dict[str, Any]
    if resolved.routes is not None:
        plain, wired, own = MixedProgram, _WireMixedProgram, {"to": listeners(resolved.routes, partition)}
    elif publishes and resolved.publication is not None:
        plain, wired = PublishingProgram, _WirePublishingProgram
        own = {"every": resolved.publication.every, "epochs": resolved.config.train.epochs}
    elif resolved.probe is not None:
        plain, wired, own = ProbingProgram, _WireProbingProgram, {"probe": resolved.probe}
    elif replicas is None:
        plain, wired, own = Program, WireProgram, {}
    else:
        plain, wired, own = ReplicaProgram, _WireReplicaProgram, {"replicas": replicas, "replica": replica}
    wires = wires_of(resolved)
    return partial(plain, **own) if wires is None else partial(wired, wires, **own)
