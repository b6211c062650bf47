"""From a config to everything a run needs to know before a process starts.

Whatever a config can get wrong is found here: names, options, missing data, blocks that do not fit together, rules
that do not fit blocks or modes. The run's processes then build from what is resolved and do not ask again.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.checks import (
    check_batching,
    check_classes,
    check_emulation,
    check_interval,
    check_mode,
    check_optimizer,
    check_wire,
)  # fmt: skip
from pipeline.config import Config, NamedConfig, TrainConfig
from pipeline.config.blocks import parse_blocks
from pipeline.data.dataset import Dataset, DataSpec, Normalisation
from pipeline.data.task import Binary, Classification, Logistic, Task
from pipeline.dataset_of import data_bytes, find_dataset, load_dataset
from pipeline.errors import ConfigError
from pipeline.learning.exchanged import Exchanged
from pipeline.learning.rule import BlockSpec, Topology
from pipeline.measurable import check_measurable
from pipeline.memory import check_room
from pipeline.mixture.checks import check_mixture
from pipeline.mixture.initial import InitialBlocks, find_initial, tell_seen_samples
from pipeline.mixture.routes import Routes
from pipeline.mixture.rules import Declarations, build_rule, check_rules, checked_options, checked_rule
from pipeline.mixture.sections import completed, for_blocks
from pipeline.network.block import Blueprint
from pipeline.network.blueprints import blueprints_of, load_model
from pipeline.network.from_modules import UserModel
from pipeline.network.shapes import BlockShapes, infer_shapes
from pipeline.optim.block_optimizers import BlockOptimizer, BlockOptimizers
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.optim.options import OptimizerSection, parse_optimizer
from pipeline.schedules.batching import Batching, Publication, batching_of
from pipeline.schedules.chunk_checks import check_chunks
from pipeline.schedules.dealing import check_replicas, dealt
from pipeline.schedules.gate_checks import check_gate
from pipeline.schedules.modes import Mode, Rules, find_mode
from pipeline.schedules.plan import BlockMode
from pipeline.schedules.probe import Probe
from pipeline.schedules.schedule import Schedule
from pipeline.schedules.selection import Selecting, check_selection
from pipeline.schedules.wave import Wave, turns_of

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
    exchanged: tuple[Exchanged, ...]
    """What the replicas of each block exchange, also where compute is emulated."""
    learns_at_once: bool = False
    """See :attr:`pipeline.schedules.batching.Declared.learns_at_once`."""
    most_feedback: int = 1
    """Tensors like a block's output in a message of feedback, at most."""
    publication: Publication | None = None
    """What the last block publishes; None under most rules, and where compute is emulated."""
    normalisation: Normalisation | None = None
    """Of the data set's samples."""
    frozen: frozenset[int] = frozenset()
    """Blocks that learn nothing in the whole run."""
    routes: Routes | None = None
    """Where feedback comes from, where it does not all go one way."""
    block_optimizers: BlockOptimizers | None = None
    """Where blocks are not all stepped alike; they are then asked in place of ``optimizer`` and ``lr``."""
    initial: InitialBlocks | None = None
    """Trained blocks that the run starts from."""
    batch_norms: frozenset[int] = frozenset()
    """See :attr:`pipeline.schedules.batching.Declared.batch_norms`."""

    @property
    def num_blocks(self) -> int:
        """Blocks of the network."""
        return len(self.specs)

    @property
    def microbatch_size(self) -> int:
        """Samples of a full micro-batch."""
        return -(-self.batching.batch_size // self.batching.microbatches)

    def optimizer_of(self, block: int) -> OptimizerSpec:
        """How the parameters of a block are stepped."""
        own = (self.block_optimizers or {}).get(block)
        return self.optimizer if own is None else own.optimizer

    @property
    def passing(self) -> frozenset[int]:
        """Frozen blocks through which derivatives come down to blocks that learn."""
        return self.routes.passing if self.routes is not None else frozenset()

    @property
    def mode(self) -> Mode:
        """The row of the run's mode."""
        return find_mode(self.config.schedule.mode)

    def schedule(self) -> Schedule:
        """Which blocks train when, and which epoch is chosen where there is a validation set."""
        schedule, train = self.mode.schedule(self.config, self.num_blocks, self.caches), self.config.train
        schedule = schedule.without(self.frozen) if self.frozen else schedule
        if not self.batching.num_validation:
            return schedule
        return Selecting(schedule, self.num_blocks, train.epochs, train.patience)

    @property
    def wave(self) -> Wave | None:
        """The parts of their steps that blocks take, where they are known before; else None."""
        gate, turns = self.config.gate, turns_of(self.num_blocks, self.frozen)
        return Wave.of(gate, turns, self.batching.num_steps) if self.mode.is_gated and not gate.measures else None

    @property
    def probe(self) -> Probe | None:
        """What passes the blocks to see how far their inputs move; None where nobody asks."""
        gate = self.config.gate
        return Probe.of(gate, self.batching) if self.mode.is_gated and gate.measures else None

    @property
    def modes(self) -> tuple[BlockMode, ...]:
        """Of each block where all train that learn at all."""
        return tuple(BlockMode.FROZEN if k in self.frozen else BlockMode.TRAIN for k in range(self.num_blocks))

    @property
    def caches(self) -> bool:
        """The outputs of frozen blocks are kept; augmented and sampled ones differ in every epoch, and where an epoch
        has which sample of a batch of few classes follows from all labels, which later stages do not have."""
        differ = self.data.is_augmented or any(s.draws_samples for s in self.shapes)
        return self.config.schedule.cache != "off" and not differ and self.batching.classes is None


def resolve(config: Config, data_root: Path, model: UserModel | None = None, *, begins: bool = True) -> RunSpec:
    """Checks ``config`` and fills it in.

    Args:
        config: as the user wrote it.
        data_root: where data sets are.
        model: blocks, or an ``nn.Sequential`` to be cut into blocks, in place of ``config.model``.
        begins: False where the run goes on from a state of its own: the run that it began from need not be there.

    Raises:
        ConfigError: whatever is wrong, with the next move.
    """
    mode = find_mode(config.schedule.mode)
    dataset, data_options = find_dataset(config, data_root)
    data = dataset.spec
    check_room({"for the data set": data_bytes(data)}, "Use fewer or smaller samples.")
    task = task_of(config, data.task)
    blueprints, chosen = _model(config, model, data.input_shape, task.num_outputs)
    count = len(blueprints)
    frozen = frozenset(parse_blocks(config.train.freeze, count, "train.freeze"))
    config = _completed(config, data_options, chosen, count)
    shapes = infer_shapes(blueprints, data.input_shape, task.out_shape, data.input_dtype, data.num_tokens)
    specs = _specs(shapes, blueprints, task, data.num_train)
    config = _with_rule_for_mode(config, mode, blueprints[0], specs[0])
    initial = find_initial(config.train, count) if begins else None
    tell_seen_samples(config, initial)
    rules = check_rules(config, blueprints, specs, frozen, initial)
    rule, sizes = rules.declared, rules.sizes
    config, batching = _batched(config, mode, dataset, shapes, rules, frozen)
    if config.chaos.emulates:
        sizes = [(0, 0)] * len(specs)  # no weights are there
        rule = dataclasses.replace(rule, publication=None)
    stepped = partial(_stepped, config.train.epochs, batching.num_steps)
    whole = stepped(config.optimizer)
    return RunSpec(
        config, tuple(blueprints), tuple(shapes), specs, rule.topology, data, whole.optimizer, whole.lr,
        batching, tuple(state for state, _ in sizes), tuple(trained for _, trained in sizes), tuple(rules.exchanged),
        rule.learns_at_once, rule.most_feedback, rule.publication, dataset.normalisation, frozen, rules.routes,
        for_blocks(config.optimizer, stepped, count, frozen), initial, rule.batch_norms,
    )  # fmt: skip


def _completed(config: Config, data_options: Mapping[str, Any], model: NamedConfig, num_blocks: int) -> Config:
    """The config with the options of every named thing filled in, those of the data set and the model as given."""
    return dataclasses.replace(
        config, dataset=NamedConfig(name=config.dataset.name, options=data_options), model=model,
        rule=completed(config.rule, checked_options, num_blocks, "rule"),
        optimizer=completed(config.optimizer, _complete, num_blocks, "optimizer"),
        train=_with_whole_path(config.train),
    )  # fmt: skip


def _batched(
    config: Config, mode: Mode, dataset: Dataset, shapes: Sequence[BlockShapes], rules: Declarations,
    frozen: Collection[int],
) -> tuple[Config, Batching]:  # fmt: skip
    """How the data is cut, and the config with the micro-batches of it; refuses what does not go together."""
    data, rule = dataset.spec, rules.declared
    check_mode(config, mode, rule.topology, publishes=rule.publication is not None)
    check_mixture(config, mode, rules, frozen, len(shapes))
    config = dealt(config, mode)
    check_emulation(config, mode, rule.topology)
    check_classes(config, data, rule)
    check_interval(config, rule, dataset.normalisation)
    batching = batching_of(config.train, mode, data, rule)
    check_replicas(config, mode, batching, rule)
    check_chunks(config, mode, data, batching)
    check_batching(config, mode, batching, rule, shapes)
    check_optimizer(config, rule)
    check_measurable(config.measure, data, len(shapes))
    check_selection(config, data)
    check_gate(config, mode, batching, len(shapes), frozen)
    check_wire(config, shapes)
    return config, batching


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
    """The config with backprop in place of a rule, or several, that the mode does not run."""
    replaced = mode.rules is Rules.BACKPROP or (
        mode.rules is Rules.BACKWARD
        and (config.rule.blocks or checked_rule(config, blueprint, spec).topology is not Topology.NEIGHBOUR)
    )
    return dataclasses.replace(config, rule=NamedConfig(name="backprop")) if replaced else config


def _specs(
    shapes: Sequence[BlockShapes], blueprints: Sequence[Blueprint], task: Task, num_train: int
) -> tuple[BlockSpec, ...]:
    """Place and shapes of every block."""
    above = [next((b for b in blueprints[k + 1 : k + 2] if not b.seed_free), None) for k in range(len(blueprints))]
    return tuple(
        BlockSpec(k, len(shapes), s.in_shape, s.body_shape, s.out_shape, task, num_train, above[k])
        for k, s in enumerate(shapes)
    )


def _with_whole_path(train: TrainConfig) -> TrainConfig:
    """The section with a path that means the same from any folder."""
    return dataclasses.replace(train, init_from=str(Path(train.init_from).resolve())) if train.init_from else train


def _optimizer(section: NamedConfig) -> OptimizerSection:
    """One choice of an optimizer, checked."""
    return parse_optimizer(section.name, section.options)


def _stepped(epochs: int, steps_per_epoch: int, section: NamedConfig) -> BlockOptimizer:
    """How one choice steps the parameters of a block in a run of that length."""
    found = _optimizer(section)
    return BlockOptimizer(found.optimizer, found.lr(epochs, steps_per_epoch))


def _complete(section: NamedConfig) -> NamedConfig:
    """The same with all options."""
    return NamedConfig(name=section.name, options=_optimizer(section).options)
