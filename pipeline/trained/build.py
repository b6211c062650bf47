"""Builds a trained network again, from the folder of its run or from a file."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config import Config, NamedConfig
from pipeline.data.task import Task
from pipeline.errors import ConfigError
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block, Blueprint
from pipeline.network.blueprints import load_model, load_network
from pipeline.network.from_modules import UserModel, blocks_in, blueprints_of
from pipeline.network.shapes import infer_shapes
from pipeline.network.structure import unpack_structure
from pipeline.numerics.seeds import seeded
from pipeline.places import default_data_root
from pipeline.records.network_facts import NetworkFacts
from pipeline.resolve import build_rule, load_dataset, task_of
from pipeline.trained.network import TrainedNetwork
from pipeline.trained.recipe import Recipe
from pipeline.trained.sources import Run, Source, is_file, read_file, read_run

__all__ = ["load"]


def load(
    run: Run | str | Path, *, model: UserModel | None = None, device: str | torch.device = "cpu",
    data_root: Path | None = None,
) -> TrainedNetwork:  # fmt: skip
    """The network that a run has trained, in evaluation mode; see :class:`TrainedNetwork`.

    What the run's config and network name is imported: load no run of somebody whose programs you would not run.

    Args:
        run: its folder, or a file of :meth:`TrainedNetwork.save`.
        model: the network that was handed over to the run, or one of the same structure; not changed. Needed only
            where its classes cannot be imported.
        device: where it is wanted.
        data_root: where data sets are; asked only for a run of an earlier version, or with a task of its own.

    Raises:
        ConfigError: there is no such run, it has not ended well, a file is damaged, or the network cannot be built.
    """
    if isinstance(run, Run):
        source = read_run(run)
    else:
        source = read_file(Path(run)) if is_file(Path(run)) else read_run(Run(run))
    facts = _facts(source, data_root or default_data_root())
    task = facts.task
    assert task is not None, "asked of the data set"
    layers, blueprints, blocks = _network(source, facts, task, model)
    network = _under_rules(source, facts, task, layers, blueprints, blocks)
    return network.to(device)


def _facts(source: Source, data_root: Path) -> NetworkFacts:
    """What is known of the network's input and output, by the data set where the run does not say it."""
    facts = source.facts
    if facts is not None and facts.task is not None:
        return facts
    dataset = load_dataset(source.config, data_root)
    structure = facts.structure if facts is not None else None
    spec = dataset.spec
    return NetworkFacts(
        spec.input_shape, task_of(source.config, spec.task), dataset.normalisation, structure, spec.num_train,
        spec.input_dtype, has_pixels=spec.has_pixels, num_tokens=spec.num_tokens,
    )


def _network(
    source: Source, facts: NetworkFacts, task: Task, model: UserModel | None
) -> tuple[Mapping[str, nn.Module], Sequence[Blueprint], Sequence[Block]]:
    """The network's children, blueprints of its blocks, and blocks over the same layers."""
    config = source.config.model
    if model is None and config.name == "object":
        if facts.structure is None:
            raise ConfigError(
                f"the network was handed over as an object (given: {source.name}, expected: with it). Pass it: "
                "onward.load(run, model=network)."
            )
        model = unpack_structure(facts.structure)
    elif model is None:
        return _named_network(config, facts, task)
    model = copy.deepcopy(model if isinstance(model, nn.Module) else list(model))
    return _children(model), blueprints_of(model), blocks_in(model)


def _named_network(
    config: NamedConfig, facts: NetworkFacts, task: Task
) -> tuple[Mapping[str, nn.Module], Sequence[Blueprint], Sequence[Block]]:
    """See :func:`_network`; blueprints build each block anew, as in the run: not all that trains can be copied."""
    blueprints = load_model(config.name, facts.input_shape, task.num_outputs, config.options).blueprints
    model = load_network(config.name, facts.input_shape, task.num_outputs, config.options)
    if model is not None:
        return _children(model), blueprints, blocks_in(model)
    with seeded(0):
        blocks = [blueprint.make() for blueprint in blueprints]
    return {str(k): block for k, block in enumerate(blocks)}, blueprints, blocks


def _children(model: UserModel) -> Mapping[str, nn.Module]:
    """The modules of a network by name."""
    if isinstance(model, nn.Module):
        return model._modules  # type: ignore[return-value]
    return {str(k): module for k, module in enumerate(model)}


def _under_rules(
    source: Source, facts: NetworkFacts, task: Task, layers: Mapping[str, nn.Module], blueprints: Sequence[Blueprint],
    blocks: Sequence[Block],
) -> TrainedNetwork:  # fmt: skip
    """The network, its blocks under their rules and with their weights."""
    shapes = infer_shapes(blueprints, facts.input_shape, task.out_shape, facts.input_dtype)
    specs = [
        BlockSpec(
            k, len(shapes), s.in_shape, s.body_shape, s.out_shape, task, facts.num_train,
            next(iter(blueprints[k + 1 : k + 2]), None),
        )
        for k, s in enumerate(shapes)
    ]
    rules = [_rule(source.config, block, spec) for block, spec in zip(blocks, specs, strict=True)]
    for rule in rules:
        rule.begin_epoch(max(source.epochs - 1, 0))
    recipe = Recipe(source.config, replace(facts, task=task), source.threads, source.result, source.has_readouts)
    network = TrainedNetwork(layers, rules, recipe)
    try:
        _fill(network, source)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the network does not fit the weights of {source.name} ({_last_line(error)}). Pass one "
            "of the structure that was trained."
        ) from None
    network.check_chain()
    return network


def _last_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[-1].strip()


def _rule(config: Config, block: Block, spec: BlockSpec) -> LearningRule:
    """A block under its rule, as the run had it; its weights are still to come."""
    rule = build_rule(config, Blueprint(lambda: block, ""), spec)
    if config.run.channels_last:
        rule.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return rule


def _fill(network: TrainedNetwork, source: Source) -> None:
    """Sets all weights. Raises RuntimeError or ValueError where names or shapes are others."""
    if source.states is not None:
        for rule, state in zip(network.rules, source.states, strict=True):
            rule.load_state_dict(state)
        return
    network.load_state_dict(source.tensors)
    for rule, own in zip(network.rules, source.own, strict=True):
        _fill_own(rule, own, whole=source.has_readouts or network.needs_own(rule))


def _fill_own(rule: LearningRule, own: Mapping[str, Tensor], *, whole: bool) -> None:
    """Sets what belongs to a rule and not to its block. Args: whole, all of it has to be there."""
    found = rule.load_state_dict(own, strict=False)
    if found.unexpected_keys:
        raise ValueError(f"unexpected: {', '.join(found.unexpected_keys)}")
    missing = [name for name in found.missing_keys if not name.startswith("block.")]
    if whole and missing:
        raise ValueError(f"missing: {', '.join(missing)}")
