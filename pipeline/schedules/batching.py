"""How the data is cut into batches and micro-batches, known to every stage."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.data.dataset import DataSpec
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.network.shapes import BlockShapes

__all__ = ["BASELINES", "Declared", "Batching", "batching_of"]

logger = logging.getLogger(__name__)

BASELINES = ("backprop", "gpipe", "1f1b", "pipedream")
"""Backpropagation, whatever the config's rule is, unless that has a backward pass itself."""


@dataclass(frozen=True)
class Declared:
    """What a rule says of itself; see :class:`pipeline.learning.rule.LearningRule`."""

    topology: Topology
    splits_batches: bool
    max_in_flight: int | None


@dataclass(frozen=True)
class Batching:
    """Sizes of the two splits in batches and samples, known to every stage."""

    num_train: int
    num_test: int
    batch_size: int
    eval_batch_size: int
    microbatches: int
    in_flight: int
    one_f_one_b: bool = False
    eval_passes: int = 1
    pipedream: bool = False
    """Whether what is in flight depends on the stage, see :meth:`in_flight_at`; ``in_flight`` is then not asked."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of one epoch; a last smaller batch counts."""
        return -(-self.num_train // self.batch_size)

    @property
    def num_eval_batches(self) -> int:
        """Batches of one evaluation."""
        return -(-self.num_test // self.eval_batch_size)

    def in_flight_at(self, stage_index: int, num_stages: int) -> int:
        """Batches that a stage may have sent on and not yet learned from.

        The same on every stage, or as many as there are stages from it to the last (PipeDream). More than an epoch has
        is no more: everything under way is learned from before an epoch ends.
        """
        most = num_stages - stage_index if self.pipedream else self.in_flight
        return min(most, self.num_steps)

    def counts(self) -> list[int]:
        """Micro-batches of each step; a last batch smaller than that has one per sample."""
        last = self.num_train - (self.num_steps - 1) * self.batch_size
        return [self.microbatches] * (self.num_steps - 1) + [min(self.microbatches, last)]


def batching_of(config: Config, data: DataSpec, rule: Declared, shapes: Sequence[BlockShapes]) -> Batching:
    """How the data is cut, and how much of it may be under way.

    Raises:
        ConfigError: the rule or the blocks cannot live with the pieces.
    """
    train, mode = config.train, config.schedule.mode
    pipelined = mode in ("gpipe", "1f1b")
    batch_size = min(train.batch_size, data.num_train)
    microbatches = min(train.microbatches or (4 if pipelined else 1), batch_size)
    in_flight = 1 if rule.topology is Topology.LOCAL or mode in BASELINES else train.in_flight
    returns = rule.topology in (Topology.NEIGHBOUR, Topology.BROADCAST)
    _check_in_flight(config, rule, in_flight, microbatches)
    batching = Batching(
        data.num_train, data.num_test, batch_size,
        min(train.eval_batch_size or train.batch_size, data.num_test), microbatches, in_flight,
        # The same numbers as from all parts forward and then all parts back, and less is held; gpipe is the other.
        one_f_one_b=mode == "1f1b" or (mode != "gpipe" and returns and microbatches > 1),
        pipedream=mode == "pipedream", eval_passes=train.eval_passes,
    )  # fmt: skip
    _check_parts(config, batching, rule, shapes)
    _check_passes(config, shapes)
    return batching


def _check_in_flight(config: Config, rule: Declared, in_flight: int, microbatches: int) -> None:
    """Refuses more under way than the rule says it can live with, and late batches that come in parts."""
    name, most = config.rule.name, rule.max_in_flight
    if config.schedule.mode == "pipedream":
        if most is not None:
            raise ConfigError(
                f"the mode pipedream has as many batches in flight as stages, and the rule {name} bounds them (its "
                f"most: {most}, expected: a rule without a bound, e.g. backprop). Change the rule or the mode."
            )
        if microbatches > 1:
            raise ConfigError(
                "the mode pipedream applies the gradient of every batch by itself (train.microbatches: "
                f"{microbatches}, expected: 1). Set it to 1; a smaller train.batch_size bounds the memory too."
            )
    if most is not None and in_flight > most:
        raise ConfigError(
            f"the rule {name} does not bear feedback that late (train.in_flight: {in_flight}, expected: at most "
            f"{most}). Lower it."
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


def _check_parts(config: Config, batching: Batching, rule: Declared, shapes: Sequence[BlockShapes]) -> None:
    """Refuses parts of a batch whose losses do not add up to the batch's, and says where their statistics differ.

    BatchNorm has no statistics of a single sample, and those of a part of a batch are not those of the batch.
    """
    if batching.microbatches > 1 and not rule.splits_batches:
        raise ConfigError(
            f"the loss of {config.rule.name} compares the samples of a batch with each other, and parts of the batch "
            f"have another loss (train.microbatches: {batching.microbatches}, expected: 1). "
            "Set train.microbatches to 1; a smaller train.batch_size bounds the memory too."
        )
    if not any(s.has_batch_norm for s in shapes):
        return
    last = batching.num_train - (batching.num_steps - 1) * batching.batch_size
    smallest = min(batching.batch_size // batching.microbatches, last // batching.counts()[-1])
    if smallest < 2:
        raise ConfigError(
            f"batch normalisation needs two samples, and a micro-batch here has one (train.batch_size: "
            f"{batching.batch_size}, last batch: {last}, micro-batches: {batching.microbatches}). "
            f"Choose a batch size that leaves more, or model.norm = \"none\"."
        )
    if batching.microbatches > 1:
        logger.warning(
            "batch normalisation takes its statistics from each micro-batch, %d samples, and not from the batch "
            "of %d: another function than without micro-batches.",
            batching.batch_size // batching.microbatches, batching.batch_size,
        )  # fmt: skip
