"""Refusals: what a mode, a rule or the batches ask for and cannot have, found before a run starts."""

import logging
from collections.abc import Sequence

import torch

from pipeline.config import Config
from pipeline.config.blocks import names_of
from pipeline.data.class_order import ClassLimit
from pipeline.data.dataset import DataSpec, Normalisation
from pipeline.data.task import Binary, Classification
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.network.shapes import BlockShapes
from pipeline.optim.optimizers import asks_for_rate_once
from pipeline.optim.options import common_options
from pipeline.registry import defaults
from pipeline.schedules.batching import Batching, Declared
from pipeline.schedules.modes import InFlightLimit, Mode

__all__ = [
    "check_batching", "check_classes", "check_emulation", "check_interval", "check_mode", "check_optimizer",
    "check_published", "check_wire",
]  # fmt: skip

logger = logging.getLogger(__name__)


def check_classes(config: Config, data: DataSpec, rule: Declared) -> None:
    """Refuses batches of few classes where samples have none, or all batches have all, or a rule asks for samples.

    Raises:
        ConfigError: the task is no classification of whole samples, or has so few classes that no batch would have
            fewer; or a rule asks which samples are in a batch, which it is told from the seed alone.
    """
    drawn = config.train.classes_per_batch
    if not drawn:
        return
    if not isinstance(data.task, Classification | Binary):
        raise ConfigError(
            f"samples have no class to be chosen by (given: train.classes_per_batch = {drawn} with a task of "
            f"{type(data.task).__name__}, expected: one of classes). Set it to 0."
        )
    count, least = max(data.task.num_outputs, 2), ClassLimit(drawn).least
    if count <= least:
        raise ConfigError(
            f"batches would have no fewer classes (given: train.classes_per_batch = {drawn} with {count} classes, of "
            f"which a batch has {least} or more; expected: 0, or less than {count}). Lower it."
        )
    if rule.asks_for_note:
        raise ConfigError(
            f"the rule {names_of(config.rule)} asks which samples a batch has, and of batches of few classes it is not "
            f"told (given: train.classes_per_batch = {drawn}, expected: 0). Set it to 0, or change the rule."
        )


def check_interval(config: Config, rule: Declared, scale: Normalisation | None) -> None:
    """Says where a rule takes samples for values in [0, 1] and normalisation moves them out of it."""
    if rule.takes_unit_interval and scale and any(m > 0 or 1 - m > s for m, s in zip(scale.mean, scale.std)):
        logger.warning(
            "%s takes samples for states in [0, 1], which normalised ones are not. Leave them as they are, e.g. by "
            "dataset.normalise = false.", names_of(config.rule),
        )  # fmt: skip


def check_wire(config: Config, shapes: Sequence[BlockShapes]) -> None:
    """Refuses a wire format that has no place, or that what a block sends does not go into.

    Raises:
        ConfigError: it does not.
    """
    wire, cuts, count = config.transport.wire, config.transport.wire_at, len(shapes)
    if wire == "same":
        if cuts:
            raise ConfigError(
                f"nothing is rounded (given: transport.wire_at = {cuts} with transport.wire = \"same\", expected: a "
                "wire format, e.g. \"int8\"). Set transport.wire, or leave transport.wire_at out."
            )
        return
    if wrong := [k for k in cuts if k >= count or cuts.count(k) > 1]:
        raise ConfigError(
            f"no such boundary, or named twice (given: transport.wire_at has {wrong[0]}, expected: the block above "
            f"each boundary once, 1 to {count - 1}). Correct it."
        )
    for k in sorted(cuts or range(1, count)):
        below = shapes[k - 1]
        if below.dtype is not torch.float32 or not below.out_shape:
            raise ConfigError(
                f"the input of block {k} has no wire format (given: {below.dtype}, {len(below.out_shape)} dimensions "
                f"a sample, with transport.wire = \"{wire}\"; expected: torch.float32, at least 1). Set transport.wire "
                "to \"same\", or name other blocks in transport.wire_at."
            )


def check_published(config: Config, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuses blocks that cannot use what the last one publishes. Args: shapes, of what each block takes over.

    Raises:
        ConfigError: they differ.
    """
    wrong = next((k for k, shape in enumerate(shapes) if shape != shapes[-1]), None)
    if wrong is not None:
        raise ConfigError(
            f"the blocks cannot share a read-out (given: rule {config.rule.name} with {shapes[wrong]} in block {wrong} "
            f"and {shapes[-1]} in the last one, expected: outputs and features of one size). Give all blocks one "
            "width, or choose rule aux."
        )


def check_mode(config: Config, mode: Mode, topology: Topology, *, publishes: bool = False) -> None:
    """Refuses a rule that needs the blocks above in a mode that trains a block before they exist, and one whose blocks
    do not learn from what a probe shows.

    Raises:
        ConfigError: it does, or they do not.
    """
    by_turns = mode.goes_block_by_block(config)
    if mode.is_gated and not by_turns and (publishes or topology is Topology.SETTLE):
        what = "use what the last one learns" if publishes else "settle on their inputs together"
        raise ConfigError(
            f"a probe shows what blocks pass forward (given: gate.form = \"{config.gate.form}\" with the rule "
            f"{names_of(config.rule)}, whose blocks {what}; expected: another rule, e.g. predsim). Change one of them."
        )
    if mode.is_gated and config.gate.needs_local_rule and topology is not Topology.LOCAL:
        given = "gate.form = \"G1m\"" if config.gate.form == "G1m" else f"gate.rest = {config.gate.rest:g}"
        raise ConfigError(
            f"what a block learns from is its own affair only where no feedback passes it (given: {given} with the "
            f"rule {names_of(config.rule)}, {topology.value}; expected: a local rule, e.g. predsim). Change one of "
            "them."
        )
    if by_turns and publishes:
        raise ConfigError(
            f"the {mode.name} mode trains the last block when the others are done (given: rule {config.rule.name}, "
            "whose blocks use what the last one learns; expected: a rule of blocks by themselves, e.g. aux). Change "
            "one of them."
        )
    if by_turns and topology is not Topology.LOCAL:
        raise ConfigError(
            f"the {mode.name} mode trains blocks before those above them exist (rule: {names_of(config.rule)}, "
            f"{topology.value}; expected: a local rule, e.g. predsim). Change the rule or the mode."
        )


def check_optimizer(config: Config, rule: Declared) -> None:
    """Says under which optimizer the rule would be another one: the run may be meant so."""
    if rule.unsuited:
        logger.warning("the rule %s under this optimizer: %s", names_of(config.rule), rule.unsuited)
    given, usual = config.optimizer.options, defaults(common_options)
    idle = [key for key in ("milestones", "course", "warmup_steps") if given[key] not in (usual[key], [])]
    names = [config.optimizer.name, *(section.get("name", "") for section in config.optimizer.blocks.values())]
    once = next(filter(asks_for_rate_once, names), None)
    if once is not None and idle:
        logger.warning(
            "%s asks for the learning rate at its first step alone: optimizer.%s changes nothing under it.",
            once, " and optimizer.".join(idle),
        )  # fmt: skip


def check_emulation(config: Config, mode: Mode, topology: Topology) -> None:
    """Refuses emulated compute where the course of a run depends on what is learned.

    Raises:
        ConfigError: an exchange of several rounds, a schedule that waits for losses, or measurements of the weights.
    """
    if not config.chaos.emulates:
        return
    if topology is Topology.SETTLE:
        what, expected = f"the rule {names_of(config.rule)}", "a rule that does not settle, e.g. predsim"
    elif not mode.is_predictable:
        what, expected = f"the mode {mode.name}", "a mode in which every epoch does the same, e.g. parallel"
    elif config.measure.every > 0:
        what, expected = f"measure.every = {config.measure.every}", "0"
    else:
        return
    raise ConfigError(
        f"compute cannot be emulated (given: chaos.compute = \"sleep\" with {what}, expected: {expected}). Change it, "
        "or set chaos.compute to \"real\"."
    )


def check_batching(
    config: Config, mode: Mode, batching: Batching, rule: Declared, shapes: Sequence[BlockShapes]
) -> None:
    """Refuses pieces of the data that the rule or a block cannot live with.

    Raises:
        ConfigError: too many batches in flight, a loss or statistics that parts of a batch do not have, several
            passes through a network that draws no samples, or batches to be left out while others are in flight.
    """
    _check_in_flight(config, mode, batching, rule)
    _check_cuts(config, mode, batching)
    _check_parts(config, batching, rule)
    _check_passes(config, shapes)
    _check_skipping(config, mode, batching)


def _check_in_flight(config: Config, mode: Mode, batching: Batching, rule: Declared) -> None:
    """Refuses more batches in flight than the rule supports, and late batches that come in parts."""
    name, most = names_of(config.rule), rule.max_in_flight
    in_flight, microbatches = batching.in_flight, batching.microbatches
    if mode.in_flight is InFlightLimit.BY_STAGE:
        if most is not None:
            raise ConfigError(
                f"the mode {mode.name} has as many batches in flight as stages, and the rule {name} bounds them (its "
                f"most: {most}, expected: a rule without a bound, e.g. backprop). Change the rule or the mode."
            )
        if microbatches > 1:
            raise ConfigError(
                f"the mode {mode.name} applies the gradient of every batch by itself (train.microbatches: "
                f"{microbatches}, expected: 1). Set it to 1; a smaller train.batch_size bounds the memory too."
            )
    if most is not None and in_flight > most:
        raise ConfigError(
            f"the rule {name} supports at most {most} batches in flight (given: train.in_flight = {in_flight}). "
            "Lower train.in_flight."
        )
    if in_flight > 1 and microbatches > 1:
        raise ConfigError(
            f"late feedback counts whole batches (train.in_flight: {in_flight}, train.microbatches: {microbatches}, "
            "expected: one of them 1). Lower one."
        )


def _check_passes(config: Config, shapes: Sequence[BlockShapes]) -> None:
    """Refuses several passes through a network whose answer is the same each time."""
    if config.train.eval_passes > 1 and not any(s.draws_samples for s in shapes):
        raise ConfigError(
            f"every pass through this network gives the same (train.eval_passes: {config.train.eval_passes}, "
            "expected: 1, or a network that draws samples, e.g. model.activation = \"bernoulli\"). Change one of them."
        )


def _check_skipping(config: Config, mode: Mode, batching: Batching) -> None:
    """Refuses to leave out single batches where others are under way: their forward passes have changed buffers."""
    if config.train.nonfinite != "skip":
        return
    if batching.in_flight_by_stage or batching.in_flight > 1:
        given = f"mode {mode.name}" if batching.in_flight_by_stage else f"train.in_flight = {batching.in_flight}"
        raise ConfigError(
            f"a batch cannot be left out while the next is under way (given: train.nonfinite = \"skip\" with {given}, "
            "expected: one batch in flight). Set train.nonfinite to \"stop\", or take batches one at a time."
        )


def _check_cuts(config: Config, mode: Mode, batching: Batching) -> None:
    """Refuses snapshots inside an epoch where batches are always in flight: to drain them would change the weights."""
    if config.snapshot.every_steps > 0 and (batching.in_flight > 1 or mode.in_flight is InFlightLimit.BY_STAGE):
        raise ConfigError(
            f"with several batches in flight a run can be cut between epochs only (snapshot.every_steps: "
            f"{config.snapshot.every_steps}, expected: 0). Set snapshot.every_epochs in its place."
        )


def _check_parts(config: Config, batching: Batching, rule: Declared) -> None:
    """Refuses parts of a batch whose losses do not add up to the batch's, and says where their statistics differ.

    BatchNorm has no statistics of a single sample, and those of a part of a batch are not those of the batch.
    """
    if batching.microbatches > 1 and not rule.splits_batches:
        raise ConfigError(
            f"the rule {names_of(config.rule)} learns from a batch as a whole, and parts of the batch would give "
            f"other weights (train.microbatches: {batching.microbatches}, expected: 1). Set train.microbatches to 1; a "
            "smaller train.batch_size bounds the memory too."
        )
    if not rule.batch_norms:
        return
    last = batching.num_train - (batching.num_steps - 1) * batching.batch_size
    smallest = min(batching.batch_size // batching.microbatches, last // batching.counts()[-1])
    if smallest < 2:
        raise ConfigError(
            f"batch normalisation needs two samples, and a micro-batch here has one (train.batch_size: "
            f"{batching.batch_size}, last batch: {last}, micro-batches: {batching.microbatches}). "
            f"Choose a batch size that leaves more, or a network and heads without it (model.norm, rule.head)."
        )
    if batching.microbatches > 1:
        logger.warning(
            "batch normalisation takes its statistics from each micro-batch, %d samples, and not from the batch "
            "of %d: another function than without micro-batches.",
            batching.batch_size // batching.microbatches, batching.batch_size,
        )  # fmt: skip
