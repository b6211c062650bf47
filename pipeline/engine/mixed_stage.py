"""A stage in a run whose blocks do not all learn by one topology.

A class of its own, so that a stage of one rule does nothing for it. The feedback of each block comes from where
:class:`pipeline.mixture.routes.Routes` says. Below a block of another topology, blocks may learn by backpropagation:
what comes down to them is the derivative of that block's own objective by its input.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from pipeline.engine.autocast_stage import AutocastStage
from pipeline.engine.in_flight import Held, Outbound
from pipeline.engine.stage import Stage
from pipeline.learning.rule import LearningRule, Topology
from pipeline.mixture.routes import Routes
from pipeline.records.reports import BlockScores
from pipeline.schedules.plan import BlockMode, Plan

__all__ = ["MixedAutocastStage", "MixedStage"]


class MixedStage(Stage):
    """See the module's docstring.

    Args:
        routes: of the run.
        arguments, options: see :class:`Stage`.
    """

    def __init__(self, routes: Routes, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._routes = routes
        self._relays = frozenset(k for k in self.blocks if routes.relays(k))
        self._entered: dict[int, Tensor] = {}
        self._inputs: dict[tuple[int, int], Tensor] = {}
        """Of micro-batches in flight and blocks that hand a derivative down, the input that it is by."""
        for k in self._relays:
            self.rules[k].leave_to_autograd()
        self._passing = routes.passing.intersection(self.blocks)
        for k in self._passing:
            self.rules[k].requires_grad_(False)

    def watch_inputs(self) -> None:
        """Has the input of blocks that hand a derivative down ask for one; after whatever else changes the input."""
        for k in self._relays:
            self.rules[k].register_forward_pre_hook(self._entering)

    def _entering(self, rule: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """A rule's arguments, its input a leaf of the graph."""
        if not rule.training:
            return None
        x, *others = arguments
        assert isinstance(rule, LearningRule)
        x = x.detach().requires_grad_()
        self._entered[rule.spec.index] = x
        return x, *others

    def begin(self, plan: Plan) -> None:
        """See :class:`Stage`; frozen blocks that pass derivatives on run as blocks that train, in evaluation mode."""
        if self._passing:
            modes = [BlockMode.TRAIN if k in self._passing else mode for k, mode in enumerate(plan.modes)]
            plan = replace(plan, modes=tuple(modes))
        super().begin(plan)
        for k in self._passing:
            self.rules[k].block.eval()

    def step(self, step: int = 0) -> None:
        """See :class:`Stage`; a frozen block is not updated."""
        self.staleness.forget(self._passing)
        super().step(step)

    def scores(self) -> list[BlockScores]:
        """See :class:`Stage`."""
        return [{**row, "trained": row["trained"] and row["block"] not in self._passing} for row in super().scores()]

    @property
    def topology(self) -> Topology:
        """Whether blocks here wait for something, whatever it is; feedback is never rounded."""
        return Topology.BROADCAST if self.waiting else Topology.LOCAL

    @property
    def needs_above(self) -> bool:
        """The topmost block learns from what the stage above returns."""
        return bool(self.waiting) and self._routes.awaits_above(self.waiting[-1]) and self._is_top(self.waiting[-1])

    @property
    def needs_broadcast(self) -> bool:
        """Blocks here learn from what the last stage broadcasts."""
        return not self.hosts_last and any(map(self._routes.awaits_broadcast, self.waiting))

    def _is_top(self, block: int) -> bool:
        return block == self.blocks.stop - 1

    def _awaits_feedback(self, block: int) -> bool:
        """See :class:`Stage`."""
        return self._routes.awaits(block)

    def _forward(self, key: int, x: Tensor, y: Tensor, weight: float, group: range) -> Tensor:
        """See :class:`Stage`."""
        x = super()._forward(key, x, y, weight, group)
        for k in self._relays.intersection(group):
            if k in self._entered:
                self._inputs[key, k] = self._entered.pop(k)
        return x

    def take_above(self, key: int, tensors: tuple[Tensor, ...]) -> None:
        """What the stage above has returned for a micro-batch, for the topmost block."""
        self.in_flight[key].feedback[self.blocks.stop - 1] = tensors

    def take_broadcast(self, key: int, tensors: tuple[Tensor, ...]) -> None:
        """What the last stage has broadcast about a micro-batch."""
        self._spread(self.in_flight[key], tensors)

    def _spread(self, held: Held, tensors: tuple[Tensor, ...]) -> None:
        """To all blocks here that learn from it."""
        held.feedback.update(dict.fromkeys(filter(self._routes.awaits_broadcast, self.waiting), tensors))

    def learn_at_once(self, key: int) -> list[Outbound]:
        """See :class:`Stage`; block by block, since some hand a derivative down."""
        held = self.in_flight.get(key)
        out: list[Outbound] = []
        if held is not None:
            for k in reversed([k for k in held.contexts if k in self.at_once]):
                out += self._learn_block(key, held, k, ())
        return out

    def _learn_block(self, key: int, held: Held, block: int, feedback: tuple[Tensor, ...]) -> list[Outbound]:
        """See :class:`Stage`."""
        x = self._inputs.pop((key, block), None)
        out = super()._learn_block(key, held, block, feedback)
        if x is None:
            return out
        if x.grad is None:
            raise RuntimeError(
                f"block {block} gives no derivative by its input, from which block {block - 1} is to learn (given: "
                f"{type(self.rules[block]).__name__}, expected: a rule whose loss depends on it). Give block "
                f"{block - 1} a local rule."
            )
        return out + self._hand_down(held, block, (x.grad,))

    def _deliver(self, held: Held, block: int, tensors: tuple[Tensor, ...]) -> list[Outbound]:
        """See :class:`Stage`."""
        if self.rules[block].topology is Topology.BROADCAST:
            self._spread(held, tensors)
            return [Outbound(tensors, to_all=True)]
        return self._hand_down(held, block, tensors) if self._routes.gives_below(block) else []

    def _hand_down(self, held: Held, block: int, tensors: tuple[Tensor, ...]) -> list[Outbound]:
        """To the block below, here or on the stage below."""
        if block - 1 not in self.rules:
            return [Outbound(tensors, to_all=False)]
        held.feedback[block - 1] = tensors
        return []


class MixedAutocastStage(AutocastStage, MixedStage):
    """Both: see :class:`AutocastStage`."""
