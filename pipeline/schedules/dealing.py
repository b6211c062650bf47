"""Replicas as a config asks for them: the micro-batches that they imply, and what is refused.

Replicas share work and never change what is learned, so whatever one process could not do with the same micro-batches,
bit for bit, is refused.
"""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.config import Config
from pipeline.config.blocks import names_of
from pipeline.errors import ConfigError
from pipeline.schedules.batching import Batching, Declared
from pipeline.schedules.modes import InFlightLimit, Mode, Rules
from pipeline.schedules.replicas import Replicas

__all__ = ["check_replicas", "dealt", "wants_replicas"]


def dealt(config: Config, mode: Mode) -> Config:
    """``config`` with the micro-batches that its replicas imply, where it leaves them open: the mode's own number if
    that can be dealt out, else the least one that can. They are part of the result, so they are written down."""
    replicas = config.run.replicas
    if replicas in (1, "auto") or config.train.microbatches > 0:
        return config
    divisor = Replicas(_counts(replicas)).divisor
    if divisor == 1:
        return config
    microbatches = mode.microbatches if mode.microbatches % divisor == 0 else divisor
    return replace(config, train=replace(config.train, microbatches=microbatches))


def wants_replicas(config: Config) -> bool:
    """Some stage is to have more processes than one, or may."""
    replicas = config.run.replicas
    return replicas == "auto" or max(_counts(replicas)) > 1


def check_replicas(config: Config, mode: Mode, batching: Batching, rule: Declared) -> None:
    """Refuses replicas where their weights would not be those of one process.

    Raises:
        ConfigError: a mode or a rule without micro-batches, state that each micro-batch changes, late feedback, or
            micro-batches that cannot be dealt out evenly.
    """
    replicas = config.run.replicas
    if not wants_replicas(config):
        return
    given, name = f"run.replicas = {replicas!r}".replace("'", '"'), names_of(config.rule)
    if mode.is_one_stage or mode.rules is Rules.LOCAL or mode.is_gated:
        by_turns = "trains one block at a time, on outputs that one process keeps"
        why = "is one process" if mode.is_one_stage else "has a gate for each block" if mode.is_gated else by_turns
        raise ConfigError(
            f"the mode {mode.name} {why}, and has no replicas (given: {given}, expected: 1). Leave it out, or choose "
            f"another mode{', e.g. gpipe' if mode.is_one_stage else ''}."
        )
    if batching.in_flight > 1 or mode.in_flight is InFlightLimit.BY_STAGE:
        cause = f"the mode {mode.name}" if batching.in_flight == 1 else f"train.in_flight = {batching.in_flight}"
        raise ConfigError(
            f"replicas are dealt the parts of one batch, and late feedback counts whole batches (given: {given} with "
            f"{cause}, expected: one batch in flight). Change one of them."
        )
    if not rule.splits_batches:
        raise ConfigError(
            f"replicas are dealt the parts of a batch, and the rule {name} learns from a batch as a whole "
            f"(given: {given}, expected: 1). Leave it out, or choose another rule, e.g. pred."
        )
    if rule.publication is not None:
        raise ConfigError(
            f"what the last block publishes goes to one process of each stage (given: {given} with the rule {name}, "
            "expected: 1). Leave it out, or choose another rule, e.g. aux."
        )
    if rule.notes_batches:
        raise ConfigError(
            f"the rule {name}, with these options, keeps values that every micro-batch changes in turn, and each "
            f"replica sees its own ones only (given: {given}, expected: 1). Change the options, or leave it out."
        )
    _check_dealing(replicas, given, batching.microbatches)


def _check_dealing(replicas: int | str | Sequence[int], given: str, microbatches: int) -> None:
    """Refuses micro-batches that cannot be dealt out evenly."""
    if replicas == "auto":
        if microbatches == 1:
            raise ConfigError(
                f"replicas are dealt micro-batches, and there is one (given: {given} with train.microbatches = 1, "
                "expected: at least 2). Set train.microbatches to the most replicas that a stage may have: it is part "
                "of the result, and the number of replicas is not."
            )
        return
    wrong = next((count for count in _counts(replicas) if microbatches % count), None)
    if wrong is not None:
        raise ConfigError(
            f"the micro-batches of a step cannot be dealt to the replicas evenly (given: {given} with "
            f"{microbatches} micro-batches, expected: a multiple of {wrong}). Change train.microbatches, or the number "
            "of replicas."
        )


def _counts(replicas: int | str | Sequence[int]) -> tuple[int, ...]:
    """Of each stage, or of any."""
    return tuple(replicas) if isinstance(replicas, (list, tuple)) else (int(replicas),)  # type: ignore[arg-type]
