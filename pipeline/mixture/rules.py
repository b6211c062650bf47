"""The rules of a run, from ``[rule]`` and ``[rule.blocks]``: built for its blocks, and what they declare together."""

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline import registry
from pipeline.checks import check_published
from pipeline.config import Config, NamedConfig
from pipeline.config.blocks import of_block, parse_blocks
from pipeline.errors import ConfigError
from pipeline.learning.exchanged import Exchanged
from pipeline.learning.rule import BlockSpec, LearningRule, Topology
from pipeline.mixture.initial import InitialBlocks
from pipeline.mixture.routes import Chosen, Routes, routes_of
from pipeline.network.block import Blueprint, build_block
from pipeline.numerics.seeds import derive, seeded
from pipeline.schedules.batching import Declared, Publication

__all__ = ["Declarations", "build_rule", "check_rules", "checked_options", "checked_rule", "rule_name", "rule_names"]


@dataclass(frozen=True)
class Declarations:
    """What the rules of all blocks declare."""

    declared: Declared
    routes: Routes | None
    """See :func:`pipeline.mixture.routes.routes_of`."""
    sizes: list[tuple[int, int]]
    """For each block the bytes of its state, and of what is trained of it."""
    exchanged: list[Exchanged]
    """What the replicas of each block would exchange."""


def checked_options(chosen: NamedConfig) -> NamedConfig:
    """A rule with its options checked and complete. Raises ConfigError where one is wrong."""
    named = registry.resolve("pipeline.rules", chosen.name, "rule", "rule", chosen.options)
    return NamedConfig(name=chosen.name, options=named.options)


def rule_name(config: Config, block: int, num_blocks: int) -> str:
    """Name of the rule of a block."""
    return of_block(config.rule, block, num_blocks, "rule").name


def rule_names(config: Config, num_blocks: int) -> str:
    """The rules of a run from the first block to the last, each once: ``backprop+sim``; one name for most."""
    if not config.rule.blocks:
        return config.rule.name
    return "+".join(dict.fromkeys(rule_name(config, k, num_blocks) for k in range(num_blocks)))


def build_rule(config: Config, blueprint: Blueprint, spec: BlockSpec) -> LearningRule:
    """Build one block under its rule, the initial state a function of (run seed, block index).

    The rule leaves its derivatives to autograd under autocast and with ``run.closed_form = false``. A frozen block
    keeps the weights that it was built with, also where the rule would start some of them at 0.
    """
    chosen = of_block(config.rule, spec.index, spec.num_blocks, "rule")
    block = build_block(blueprint, config.seed, spec.index)
    is_frozen = spec.index in parse_blocks(config.train.freeze, spec.num_blocks, "train.freeze")
    own = copy.deepcopy(block.state_dict()) if is_frozen else None
    build: Callable[..., LearningRule] = registry.load("pipeline.rules", chosen.name, "rule")
    with seeded(derive(config.seed, "rule", spec.index)):
        rule = build(block, spec, **chosen.options)
    if own is not None:
        block.load_state_dict(own)
    if config.run.autocast != "none" or not config.run.closed_form:
        rule.leave_to_autograd()
    return rule


def check_rules(
    config: Config, blueprints: Sequence[Blueprint], specs: Sequence[BlockSpec], frozen: Collection[int] = (),
    initial: InitialBlocks | None = None,
) -> Declarations:  # fmt: skip
    """Builds every block under its rule once, one at a time.

    Args:
        config: complete.
        blueprints, specs: of all blocks.
        frozen: blocks that learn nothing.
        initial: trained blocks to start from.

    Raises:
        ConfigError: a rule does not fit its block, rules do not go together, or a block to start from does not fit.
    """
    found, published = Declared(Topology.LOCAL, True, None), list[Tensor]()
    chosen: list[Chosen] = []
    sizes: list[tuple[int, int]] = []
    exchanged: list[Exchanged] = []
    for blueprint, spec in zip(blueprints, specs, strict=True):
        rule = checked_rule(config, blueprint, spec)
        if initial is not None:
            initial.fill(rule)
        named = of_block(config.rule, spec.index, spec.num_blocks, "rule")
        chosen.append(Chosen.of(rule, named.name, [(k, str(v)) for k, v in sorted(named.options.items())]))
        is_frozen = spec.index in frozen
        trained = 0 if is_frozen else _bytes_of(p for p in rule.parameters() if p.requires_grad)
        sizes.append((_bytes_of((*rule.parameters(), *rule.buffers())), trained))
        exchanged.append(Exchanged() if is_frozen else Exchanged.of(rule))
        found = _joined(found, rule, config, is_frozen)
        if rule.publishes_every:
            published.append(rule.published)
            publication = Publication(rule.publishes_every, _bytes_of([rule.published]))
            found = dataclasses.replace(found, publication=publication)
    check_published(config, [tuple(t.shape) for t in published])
    routes = routes_of(chosen, frozen)
    whole = dataclasses.replace(found, topology=_topology(chosen, frozen, routes))
    return Declarations(whole, routes, sizes, exchanged)


def _topology(chosen: Sequence[Chosen], frozen: Collection[int], routes: Routes | None) -> Topology:
    """Of the run."""
    if routes is not None:
        return routes.topology
    return next(rule.topology for k, rule in enumerate(chosen) if k not in frozen)


def _joined(found: Declared, rule: LearningRule, config: Config, is_frozen: bool) -> Declared:
    """What is declared so far, with one more block."""
    spec, in_unit_interval = rule.spec, found.takes_unit_interval or rule.takes_unit_interval
    if is_frozen:
        return dataclasses.replace(found, takes_unit_interval=in_unit_interval)
    normalises = any(isinstance(m, _BatchNorm) for m in rule.modules())
    batch_norms = found.batch_norms | {spec.index} if normalises else found.batch_norms
    optimizer = of_block(config.optimizer, spec.index, spec.num_blocks, "optimizer")
    at_once = rule.topology is Topology.NEIGHBOUR and rule.learns_at_once and not spec.is_last
    most = found.max_in_flight
    if rule.max_in_flight is not None or rule.topology is Topology.SETTLE:
        most = min(rule.max_in_flight or 1, most or rule.max_in_flight or 1)
    return Declared(
        rule.topology, found.splits_batches and rule.splits_batches, most,
        found.notes_batches or rule.notes_batches, found.learns_at_once or at_once, in_unit_interval,
        found.asks_for_note or rule.asks_for_note,
        found.unsuited or rule.unsuited(optimizer.name, optimizer.options),
        max(found.most_feedback, rule.most_feedback), found.publication, batch_norms,
    )  # fmt: skip


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def checked_rule(config: Config, blueprint: Blueprint, spec: BlockSpec) -> LearningRule:
    """One block under its rule. Raises ConfigError where it does not fit."""
    try:
        return build_rule(config, blueprint, spec)
    except ConfigError:
        raise
    except Exception as error:  # a rule may be the user's own code
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        name = rule_name(config, spec.index, spec.num_blocks)
        raise ConfigError(f"the rule {name} does not fit block {spec.index}: {what}") from None
