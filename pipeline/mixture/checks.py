"""Refusals: frozen blocks and mixtures of rules in modes and under settings that do not take them."""

from collections.abc import Collection

from pipeline.config import Config
from pipeline.config.blocks import names_of
from pipeline.errors import ConfigError
from pipeline.mixture.rules import Declarations, rule_names
from pipeline.schedules.dealing import wants_replicas
from pipeline.schedules.modes import InFlightLimit, Mode

__all__ = ["check_mixture"]


def check_mixture(config: Config, mode: Mode, rules: Declarations, frozen: Collection[int], num_blocks: int) -> None:
    """Refuses what would not be exact, or has no meaning.

    Raises:
        ConfigError: the sequential mode without its last block, frozen blocks where lateness depends on stages,
            replicas, or emulated compute.
    """
    given = f"train.freeze = {str(config.train.freeze)!r}".replace("'", '"')
    if frozen and mode.goes_block_by_block(config) and num_blocks - 1 in frozen:
        raise ConfigError(
            f"the {mode.name} mode ends with the last block, which gives the network's answers (given: {given}, "
            f"expected: without block {num_blocks - 1}). Freeze others, or change the mode."
        )
    if frozen and mode.in_flight is InFlightLimit.BY_STAGE:
        raise ConfigError(
            f"in the mode {mode.name} gradients are as late as stages follow, and a frozen stage would count (given: "
            f"{given}, expected: none). Leave it out, or choose 1f1b."
        )
    if rules.declared.publication is not None and (frozen or config.rule.blocks):
        raise ConfigError(
            "blocks that use what the last one publishes are all of one rule and all learn (given: "
            f"{given if frozen else names_of(config.rule)}, expected: no train.freeze and no [rule.blocks]). "
            "Leave them out, or choose another rule, e.g. aux."
        )
    mixed = rules.routes is not None
    what = given if frozen else f"the rules {rule_names(config, num_blocks)}"
    if (mixed or frozen) and wants_replicas(config):
        raise ConfigError(
            f"replicas share what blocks of one rule learn together (given: run.replicas = {config.run.replicas} with "
            f"{what}, expected: 1). Leave run.replicas out."
        )
    if mixed and mode.is_gated:
        raise ConfigError(
            f"no probe passes blocks of several ways of feedback (given: the mode {mode.name} with {what}, expected: "
            "one rule, or local ones). Change them, or choose another mode."
        )
    if mixed and config.chaos.emulates:
        raise ConfigError(
            f"compute is emulated for one way of feedback (given: chaos.compute = \"sleep\" with {what}, expected: "
            "one rule, or local ones). Change them, or set chaos.compute to \"real\"."
        )
