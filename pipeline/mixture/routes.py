"""Where the feedback of each block comes from, in a run whose blocks do not all learn by one topology."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.learning.rule import LearningRule, Topology

__all__ = ["Chosen", "Routes", "routes_of"]


@dataclass(frozen=True)
class Routes:
    """Which block awaits what, and from where."""

    topologies: tuple[Topology, ...]
    """Of each block; LOCAL of frozen ones, which await nothing, unless they pass a derivative on."""
    passing: frozenset[int] = frozenset()
    """Frozen blocks through which derivatives come down to blocks that learn."""

    @property
    def topology(self) -> Topology:
        """That of the run where one word has to do: of the block that holds and waits most."""
        order = (Topology.NEIGHBOUR, Topology.BROADCAST, Topology.LOCAL)
        return next(t for t in order if t in self.topologies)

    def awaits_above(self, block: int) -> bool:
        """It learns from what the block above it returns."""
        return self.topologies[block] is Topology.NEIGHBOUR and block + 1 < len(self.topologies)

    def awaits_broadcast(self, block: int) -> bool:
        """It learns from what the last block broadcasts."""
        return self.topologies[block] is Topology.BROADCAST and block + 1 < len(self.topologies)

    def awaits(self, block: int) -> bool:
        """It learns when something has come back."""
        return self.awaits_above(block) or self.awaits_broadcast(block)

    def gives_below(self, block: int) -> bool:
        """The block below learns from what this one returns."""
        return block > 0 and self.awaits_above(block - 1)

    def relays(self, block: int) -> bool:
        """The block below learns from the derivative of this one's own objective by its input: the rule itself, of
        another topology, sends nothing down."""
        return self.gives_below(block) and self.topologies[block] is not Topology.NEIGHBOUR


@dataclass(frozen=True)
class Chosen:
    """What is known of a block's rule when it has been built once."""

    name: str
    options: tuple[tuple[str, object], ...]
    topology: Topology
    takes_gradient: bool
    """See :attr:`pipeline.learning.rule.LearningRule.feedback_is_gradient`."""
    passes_frozen: bool
    """See :attr:`pipeline.learning.rule.LearningRule.passes_frozen`."""
    gives_gradient: bool
    """See :attr:`pipeline.learning.rule.LearningRule.reaches_input`."""

    @classmethod
    def of(cls, rule: LearningRule, name: str, options: Sequence[tuple[str, object]]) -> "Chosen":
        """Of a rule by its name and options."""
        return cls(
            name, tuple(options), rule.topology, rule.feedback_is_gradient, rule.passes_frozen, rule.reaches_input
        )


def routes_of(chosen: Sequence[Chosen], frozen: Collection[int]) -> Routes | None:
    """Where feedback comes from; None where it all goes one way, as in a run of one rule.

    Args:
        chosen: the rule of each block.
        frozen: blocks that learn nothing.

    Raises:
        ConfigError: the rules do not go together, or a frozen block would have to pass feedback on.
    """
    learning = [rule for k, rule in enumerate(chosen) if k not in frozen]
    if not learning:
        raise ConfigError(
            f"nothing is left to learn (given: train.freeze names all {len(chosen)} blocks, expected: fewer). Name "
            "fewer, or score the network with --evaluate."
        )
    _check_settling(chosen, frozen)
    if all(rule.topology is Topology.LOCAL for rule in learning):
        return None
    if not frozen and len(set(chosen)) == 1:
        return None
    if not frozen and {rule.topology for rule in chosen} == {Topology.BROADCAST}:
        _check_broadcast(chosen, frozen)
        return None
    passing = _passing(chosen, frozen)
    still = frozenset(frozen) - passing
    routes = Routes(tuple(Topology.LOCAL if k in still else rule.topology for k, rule in enumerate(chosen)), passing)
    _check_kinds(chosen, frozen)
    _check_broadcast(chosen, frozen)
    for k in range(len(chosen) - 1):
        if routes.awaits_above(k):
            _check_above(chosen, still, k)
    return routes


def _passing(chosen: Sequence[Chosen], frozen: Collection[int]) -> frozenset[int]:
    """Frozen blocks with a block below that learns from what they return."""
    found: set[int] = set()
    for k in range(1, len(chosen)):
        below_awaits = chosen[k - 1].topology is Topology.NEIGHBOUR and (k - 1 not in frozen or k - 1 in found)
        if k in frozen and below_awaits and chosen[k].passes_frozen:
            found.add(k)
    return frozenset(found)


def _check_settling(chosen: Sequence[Chosen], frozen: Collection[int]) -> None:
    """Refuses frozen blocks under a rule that settles: their neighbours would ask them in every round."""
    for k, rule in enumerate(chosen):
        if k in frozen and rule.topology is Topology.SETTLE:
            raise ConfigError(
                f"the rule {rule.name} settles in rounds with both neighbours, and does not go with a frozen block "
                f"(given: train.freeze with block {k} under {rule.name}, expected: another rule for it; its weights "
                f"stay as they are under any). Add [rule.blocks.\"{k}\"] with name = \"backprop\", or freeze it no "
                "longer."
            )


def _check_kinds(chosen: Sequence[Chosen], frozen: Collection[int]) -> None:
    """Refuses rules whose feedback is of a kind of its own beside anything else."""
    for k, rule in enumerate(chosen):
        if k in frozen or rule.topology in (Topology.LOCAL, Topology.BROADCAST) or rule.takes_gradient:
            continue
        settles = rule.topology is Topology.SETTLE
        why = "settles in rounds with both neighbours" if settles else "has feedback of a kind of its own"
        other = "a frozen block" if frozen else "another rule, or other options of it"
        raise ConfigError(
            f"the rule {rule.name} {why}, and does not go with {other} (given: block {k} under {rule.name}, expected: "
            "local rules, dfa, or rules that return gradients, e.g. backprop). Give all blocks this rule, or change "
            "it."
        )


def _check_broadcast(chosen: Sequence[Chosen], frozen: Collection[int]) -> None:
    """Refuses blocks that await a broadcast of which the last block is not the sender."""
    last = len(chosen) - 1
    for k, rule in enumerate(chosen[:-1]):
        if k in frozen or rule.topology is not Topology.BROADCAST:
            continue
        if last in frozen or chosen[last].name != rule.name:
            given = "it is frozen" if last in frozen else f"it is under {chosen[last].name}"
            raise ConfigError(
                f"block {k} learns by {rule.name} from what the last block broadcasts, which it does under that rule "
                f"alone (given: block {last}: {given}, expected: {rule.name}). Add [rule.blocks.\"last\"] with name = "
                f"\"{rule.name}\", or change the rule of block {k}."
            )


def _check_above(chosen: Sequence[Chosen], still: Collection[int], block: int) -> None:
    """Refuses a block above that returns no gradient. Args: still, frozen blocks that pass nothing on."""
    above = chosen[block + 1]
    if block + 1 in still:
        raise ConfigError(
            f"block {block} learns by {chosen[block].name} from what block {block + 1} returns, and frozen under "
            f"{above.name} it returns nothing (given: train.freeze with block {block + 1}, expected: blocks below all "
            f"that learn so, or blocks under backprop). Freeze it no longer, or give block {block} a local rule."
        )
    if above.topology is not Topology.NEIGHBOUR and not above.gives_gradient:
        raise ConfigError(
            f"block {block} learns by {chosen[block].name} from what block {block + 1} returns, and the rule "
            f"{above.name} has no derivative by its input (given: block {block + 1} under {above.name}, expected: a "
            "local rule with a loss, dfa, or backprop). Change one of the two."
        )
