"""From a config to everything a run needs to know before a process starts.

Whatever a config can get wrong is found here: names, options, missing data, blocks that do not fit together, rules
that do not fit blocks or modes. The run's processes then build from what is resolved and do not ask again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline import registry
from pipeline.checks import check_batching, check_measurable, check_mode
from pipeline.config import Config, NamedConfig
from pipeline.data.dataset import Dataset, DataSpec
from pipeline.data.task import Classification, Logistic, Task
from pipeline.errors import ConfigError
from pipeline.learning.rule import BlockSpec, LearningRule, Topology
from pipeline.network.block import Blueprint, build_block
from pipeline.network.blueprints import blueprints_of, load_model
from pipeline.network.shapes import BlockShapes, infer_shapes
from pipeline.numerics.seeds import derive, seeded
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec, load_optimizer
from pipeline.schedules.batching import Batching, Declared, batching_of
from pipeline.schedules.epochs import Schedule
from pipeline.schedules.modes import Mode, Rules, find_mode

__all__ = ["RunSpec", "build_rule", "load_dataset", "resolve"]


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
        """Which blocks train when."""
        return self.mode.schedule(self.config, self.num_blocks, self.caches)

    @property
    def caches(self) -> bool:
        """The outputs of frozen blocks are kept; augmented and sampled ones differ in every epoch."""
        sampled = any(s.draws_samples for s in self.shapes)
        return self.config.schedule.cache != "off" and not self.data.is_augmented and not sampled


def resolve(config: Config, data_root: Path, model: nn.Module | Sequence[nn.Module] | None = None) -> RunSpec:
    """Checks ``config`` and fills it in.

    Args:
        config: as the user wrote it.
        data_root: where data sets are.
        model: blocks, or an ``nn.Sequential`` to be cut into blocks, in place of ``config.model``.

    Raises:
        ConfigError: whatever is wrong, with the next move.
    """
    mode = find_mode(config.schedule.mode)
    config = _named(config, "dataset", "pipeline.datasets")
    dataset = load_dataset(config, data_root)
    task = _task(config, dataset.spec.task)
    if model is None:
        blueprints = load_model(config.model.name, dataset.spec.input_shape, task.num_outputs, config.model.options)
        if "." not in config.model.name:
            config = _named(config, "model", "pipeline.models")
    else:
        blueprints = blueprints_of(model)
        config = dataclasses.replace(config, model=NamedConfig(name="object"))
    config = _named(config, "rule", "pipeline.rules")
    optimizer, lr, config = _optimizer(config)
    shapes = infer_shapes(blueprints, dataset.spec.input_shape, task.num_outputs)
    specs = tuple(
        BlockSpec(k, len(blueprints), s.in_shape, s.body_shape, s.out_shape, task) for k, s in enumerate(shapes)
    )
    config = _with_rule_for_mode(config, mode, blueprints[0], specs[0])
    rule = _check_rules(config, blueprints, specs)
    check_mode(config, mode, rule.topology)
    batching = batching_of(config.train, mode, dataset.spec, rule)
    check_batching(config, mode, batching, rule, shapes)
    check_measurable(config.measure, dataset.spec, len(specs))
    return RunSpec(
        config, tuple(blueprints), tuple(shapes), specs, rule.topology, dataset.spec, optimizer, lr, batching
    )  # fmt: skip


def load_dataset(config: Config, data_root: Path) -> Dataset:
    """The data set, found but not read.

    Raises:
        ConfigError: unknown name or option, or the data is not there.
    """
    section = config.dataset
    named = registry.resolve("pipeline.datasets", section.name, "data set", "dataset", section.options)
    dataset: Dataset = named.build(data_root, **named.options)
    return dataset


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


def _task(config: Config, task: Task) -> Task:
    """The data set's own, or the one of these labels whose outputs are logistic units."""
    if config.train.loss == "logistic" and isinstance(task, Classification):
        return Logistic(task.num_outputs)
    return task


def _with_rule_for_mode(config: Config, mode: Mode, blueprint: Blueprint, spec: BlockSpec) -> Config:
    """The config with backprop in place of a rule that the mode does not run."""
    replaced = mode.rules is Rules.BACKPROP or (
        mode.rules is Rules.BACKWARD and _checked_rule(config, blueprint, spec).topology is not Topology.NEIGHBOUR
    )
    return dataclasses.replace(config, rule=NamedConfig(name="backprop")) if replaced else config


def _named(config: Config, section: str, package: str) -> Config:
    """``config`` with the options of one section checked and completed."""
    named: NamedConfig = getattr(config, section)
    noun = {"dataset": "data set"}.get(section, section)
    build = registry.load(package, named.name, noun)
    options = registry.check_options(build, named.options, section)
    changes: dict[str, Any] = {section: NamedConfig(name=named.name, options=options)}
    return dataclasses.replace(config, **changes)


def _optimizer(config: Config) -> tuple[OptimizerSpec, LrSchedule, Config]:
    """The optimizer and the learning rate's course, which share a section."""
    options = dict(config.optimizer.options)
    course = registry.check_options(
        _course, {k: options.pop(k) for k in ("milestones", "gamma") if k in options}, "optimizer"
    )
    optimizer = load_optimizer(config.optimizer.name, options)
    lr = LrSchedule(base=optimizer.lr, milestones=tuple(course["milestones"]), gamma=course["gamma"])
    complete = NamedConfig(name=config.optimizer.name, options={**optimizer.options, **course})
    return optimizer, lr, dataclasses.replace(config, optimizer=complete)


def _course(*, milestones: tuple[int, ...] = (), gamma: float = 0.25) -> None:
    """The options of ``[optimizer]`` that are the schedule's: epochs at which the rate is multiplied by gamma."""


def _check_rules(config: Config, blueprints: Sequence[Blueprint], specs: Sequence[BlockSpec]) -> Declared:
    """Builds every block under its rule once, one at a time, and returns what the rule declares."""
    topology, splits_batches, caps = Topology.LOCAL, True, []
    for blueprint, spec in zip(blueprints, specs, strict=True):
        rule = _checked_rule(config, blueprint, spec)
        topology, splits_batches = rule.topology, splits_batches and rule.splits_batches
        if rule.max_in_flight is not None or topology is Topology.SETTLE:
            caps.append(rule.max_in_flight or 1)
    return Declared(topology, splits_batches, min(caps, default=None))


def _checked_rule(config: Config, blueprint: Blueprint, spec: BlockSpec) -> LearningRule:
    """One block under the rule."""
    try:
        return build_rule(config, blueprint, spec)
    except ConfigError:
        raise
    except Exception as error:  # a rule may be the user's own code
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"the rule {config.rule.name} does not fit block {spec.index}: {what}") from None
