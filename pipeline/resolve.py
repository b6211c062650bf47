"""From a config to everything a run needs to know before a process starts.

Whatever a config can get wrong is found here: names, options, missing data, blocks that do not fit together, rules
that do not fit blocks or modes. The run's processes then build from what is resolved and do not ask again.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline import registry
from pipeline.checks import (
    check_batching, check_classes, check_emulation, check_interval, check_measurable, check_mode, check_optimizer,
    check_published, check_wire,
)  # fmt: skip
from pipeline.config import Config, NamedConfig
from pipeline.data.dataset import DataSpec, Normalisation
from pipeline.data.task import Binary, Classification, Logistic, Task
from pipeline.dataset_of import data_bytes, find_dataset, load_dataset
from pipeline.errors import ConfigError
from pipeline.learning.rule import BlockSpec, LearningRule, Topology
from pipeline.memory import check_room
from pipeline.network.block import Blueprint, build_block
from pipeline.network.blueprints import blueprints_of, load_model
from pipeline.network.from_modules import UserModel
from pipeline.network.shapes import BlockShapes, infer_shapes
from pipeline.numerics.seeds import derive, seeded
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.optim.options import parse_optimizer
from pipeline.schedules.batching import Batching, Declared, Publication, batching_of
from pipeline.schedules.chunk_checks import check_chunks
from pipeline.schedules.dealing import check_replicas, dealt
from pipeline.schedules.modes import Mode, Rules, find_mode
from pipeline.schedules.schedule import Schedule
from pipeline.schedules.selection import Selecting, check_selection

__all__ = ["RunSpec", "build_rule", "data_bytes", "load_dataset", "resolve", "task_of"]


@dataclass(frozen=True)
class RunSpec:
    """A checked run. Picklable; ``blueprints`` hold weights only where the user handed over a module object."""

    config: Config
    """Complete: the options of every named thing filled in."""
    blueprints: tuple[Blueprint, ...]
    shapes: tuple[BlockShapes, ...]
    specs: tuple[BlockSpec, ...]
    topology: Topology
    data: DataSpec
    optimizer: OptimizerSpec
    lr: LrSchedule
    batching: Batching
    state_bytes: tuple[int, ...]
    """Of the parameters and buffers of each block under its rule."""
    trained_bytes: tuple[int, ...]
    """Of those of them that are trained."""
    gradient_bytes: tuple[int, ...]
    """Of the gradients of each block that its replicas exchange: ``trained_bytes``, also where compute is emulated."""
    learns_at_once: bool = False
    """See :attr:`pipeline.schedules.batching.Declared.learns_at_once`."""
    most_feedback: int = 1
    """Tensors like a block's output in a message of feedback, at most."""
    publication: Publication | None = None
    """What the last block publishes; None under most rules."""
    normalisation: Normalisation | None = None
    """Of the data set's samples."""

    @property
    def num_blocks(self) -> int:
        """Blocks of the network."""
        return len(self.specs)

    @property
    def microbatch_size(self) -> int:
        """Samples of a full micro-batch."""
        return -(-self.batching.batch_size // self.batching.microbatches)

    @property
    def mode(self) -> Mode:
        """The row of the run's mode."""
        return find_mode(self.config.schedule.mode)

    def schedule(self) -> Schedule:
        """Which blocks train when, and which epoch is chosen where there is a validation set."""
        schedule, train = self.mode.schedule(self.config, self.num_blocks, self.caches), self.config.train
        if not self.batching.num_validation:
            return schedule
        return Selecting(schedule, self.num_blocks, train.epochs, train.patience)

    @property
    def caches(self) -> bool:
        """The outputs of frozen blocks are kept; augmented and sampled ones differ in every epoch, and where an epoch
        has which sample of a batch of few classes follows from all labels, which later stages do not have."""
        differ = self.data.is_augmented or any(s.draws_samples for s in self.shapes)
        return self.config.schedule.cache != "off" and not differ and self.batching.classes is None


def resolve(config: Config, data_root: Path, model: UserModel | None = None) -> RunSpec:
    """Checks ``config`` and fills it in.

    Args:
        config: as the user wrote it.
        data_root: where data sets are.
        model: blocks, or an ``nn.Sequential`` to be cut into blocks, in place of ``config.model``.

    Raises:
        ConfigError: whatever is wrong, with the next move.
    """
    mode = find_mode(config.schedule.mode)
    dataset, data_options = find_dataset(config, data_root)
    check_room({"for the data set": data_bytes(dataset.spec)}, "Use fewer or smaller samples.")
    task = task_of(config, dataset.spec.task)
    blueprints, chosen = _model(config, model, dataset.spec.input_shape, task.num_outputs)
    rule_options = registry.resolve("pipeline.rules", config.rule.name, "rule", "rule", config.rule.options).options
    section = parse_optimizer(config.optimizer.name, config.optimizer.options)
    complete = NamedConfig(name=config.optimizer.name, options=section.options)
    config = dataclasses.replace(
        config, dataset=NamedConfig(name=config.dataset.name, options=data_options), model=chosen,
        rule=NamedConfig(name=config.rule.name, options=rule_options), optimizer=complete,
    )  # fmt: skip
    data = dataset.spec
    shapes = infer_shapes(blueprints, data.input_shape, task.out_shape, data.input_dtype, data.num_tokens)
    specs = tuple(
        BlockSpec(
            k, len(blueprints), s.in_shape, s.body_shape, s.out_shape, task, dataset.spec.num_train,
            next((b for b in blueprints[k + 1 : k + 2] if not b.seed_free), None),
        )
        for k, s in enumerate(shapes)
    )
    config = _with_rule_for_mode(config, mode, blueprints[0], specs[0])
    rule, sizes = _check_rules(config, blueprints, specs)
    check_mode(config, mode, rule.topology, publishes=rule.publication is not None)
    config = dealt(config, mode)
    check_emulation(config, mode, rule.topology)
    check_classes(config, dataset.spec, rule)
    check_interval(config, rule, dataset.normalisation)
    batching = batching_of(config.train, mode, dataset.spec, rule)
    lr = section.lr(config.train.epochs, batching.num_steps)
    check_replicas(config, mode, batching, rule)
    check_chunks(config, mode, dataset.spec, batching)
    check_batching(config, mode, batching, rule, shapes)
    check_optimizer(config, rule)
    check_measurable(config.measure, dataset.spec, len(specs))
    check_selection(config, dataset.spec)
    check_wire(config, shapes)
    gradients = tuple(trained for _, trained in sizes)
    if config.chaos.emulates:
        sizes = [(0, 0)] * len(specs)  # no weights are there
    return RunSpec(
        config, tuple(blueprints), tuple(shapes), specs, rule.topology, dataset.spec, section.optimizer, lr, batching,
        tuple(state for state, _ in sizes), tuple(trained for _, trained in sizes), gradients,
        rule.learns_at_once, rule.most_feedback, rule.publication, dataset.normalisation,
    )  # fmt: skip


def _model(
    config: Config, model: UserModel | None, input_shape: tuple[int, ...], num_outputs: int
) -> tuple[list[Blueprint], NamedConfig]:
    """The blueprints of the network's blocks, and its section of the config, complete."""
    if model is not None:
        return blueprints_of(model), NamedConfig(name="object")
    loaded = load_model(config.model.name, input_shape, num_outputs, config.model.options)
    if "." in config.model.name:  # defaults of the user's own function may be anything, and no config could hold them
        return loaded.blueprints, config.model
    return loaded.blueprints, NamedConfig(name=config.model.name, options=loaded.options)


def build_rule(config: Config, blueprint: Blueprint, spec: BlockSpec) -> LearningRule:
    """Build one block under its rule, the initial state a function of (run seed, block index).

    The rule leaves its derivatives to autograd under autocast and with ``run.closed_form = false``.
    """
    block = build_block(blueprint, config.seed, spec.index)
    build: Callable[..., LearningRule] = registry.load("pipeline.rules", config.rule.name, "rule")
    with seeded(derive(config.seed, "rule", spec.index)):
        rule = build(block, spec, **config.rule.options)
    if config.run.autocast != "none" or not config.run.closed_form:
        rule.leave_to_autograd()
    return rule


def task_of(config: Config, task: Task) -> Task:
    """The data set's own task, or the one of the same labels whose outputs are logistic units.

    Raises:
        ConfigError: the config wants such units for labels that are no classes of samples.
    """
    if config.train.loss != "logistic" or isinstance(task, Binary):
        return task
    if isinstance(task, Classification):
        return Logistic(task.num_outputs)
    raise ConfigError(
        f"logistic outputs need one class for each sample (given: train.loss = \"logistic\" with labels that are "
        f"{task.labels.value}, expected: cross_entropy, the default). Leave train.loss out."
    )


def _with_rule_for_mode(config: Config, mode: Mode, blueprint: Blueprint, spec: BlockSpec) -> Config:
    """The config with backprop in place of a rule that the mode does not run."""
    replaced = mode.rules is Rules.BACKPROP or (
        mode.rules is Rules.BACKWARD and _checked_rule(config, blueprint, spec).topology is not Topology.NEIGHBOUR
    )
    return dataclasses.replace(config, rule=NamedConfig(name="backprop")) if replaced else config


def _check_rules(
    config: Config, blueprints: Sequence[Blueprint], specs: Sequence[BlockSpec]
) -> tuple[Declared, list[tuple[int, int]]]:
    """Builds every block under its rule once, one at a time.

    Returns:
        What the rule declares; and for each block the bytes of its state, and of what is trained of it.
    """
    topology, splits_batches, notes, caps, sizes = Topology.LOCAL, True, False, [], []
    at_once, asks, in_unit_interval, unsuited, has_batch_norm, most_feedback = False, False, False, "", False, 1
    published: list[Tensor] = []
    for blueprint, spec in zip(blueprints, specs, strict=True):
        rule = _checked_rule(config, blueprint, spec)
        topology, splits_batches = rule.topology, splits_batches and rule.splits_batches
        notes, asks = notes or rule.notes_batches, asks or rule.asks_for_note
        in_unit_interval = in_unit_interval or rule.takes_unit_interval
        at_once |= topology is Topology.NEIGHBOUR and rule.learns_at_once and not spec.is_last
        unsuited = unsuited or rule.unsuited(config.optimizer.name, config.optimizer.options)
        published += [rule.published] if rule.publishes_every else []
        every, most_feedback = rule.publishes_every, max(most_feedback, rule.most_feedback)
        has_batch_norm |= any(isinstance(m, _BatchNorm) for m in rule.modules())
        trained = _bytes_of(p for p in rule.parameters() if p.requires_grad)
        sizes.append((_bytes_of((*rule.parameters(), *rule.buffers())), trained))
        if rule.max_in_flight is not None or topology is Topology.SETTLE:
            caps.append(rule.max_in_flight or 1)
    most = min(caps, default=None)
    check_published(config, [tuple(t.shape) for t in published])
    publication = Publication(every, _bytes_of(published[-1:])) if published else None
    return Declared(
        topology, splits_batches, most, notes, at_once, in_unit_interval, asks, unsuited, most_feedback, publication,
        has_batch_norm,
    ), sizes  # fmt: skip


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _checked_rule(config: Config, blueprint: Blueprint, spec: BlockSpec) -> LearningRule:
    """One block under the rule."""
    try:
        return build_rule(config, blueprint, spec)
    except ConfigError:
        raise
    except Exception as error:  # a rule may be the user's own code
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"the rule {config.rule.name} does not fit block {spec.index}: {what}") from None
