"""All blocks of a run in one process and one state, for measurements.

One :class:`pipeline.engine.stage.Stage` hosts all blocks, so that a rule of any topology does here what it does in a
run, and every exchange between neighbours stays inside the stage.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pipeline.engine.build import build_rules, build_stage
from pipeline.engine.feeds import Feed
from pipeline.engine.settling import Settling
from pipeline.engine.wires import wires_of
from pipeline.learning.rule import Topology
from pipeline.numerics.autocast import at_least_float32, autocast
from pipeline.numerics.seeds import derive, mix, reseed
from pipeline.resolve import RunSpec
from pipeline.schedules.plan import Plan

__all__ = ["Gradients", "WholeNetwork", "Seen"]

Gradients = list[list[Tensor | None]]
"""Gradients of each block's trainable parameters, None where one got none."""

Seen = Callable[[int, Tensor], None]
"""Callback for a block's output: ``seen(block, out)``, (batch, ...)."""

_KEY = 0
"""Micro-batch whose random numbers are used: masks and samples are those of a run's first step."""


class WholeNetwork:
    """The network of a run after an epoch.

    Args:
        resolved: the run, with the blueprints of all blocks.
        num_epochs: number of epochs trained; rules are in their state of the last of them.
        states: states of all blocks, from :func:`pipeline.records.weights.load_blocks`; None for the initial weights.
        device: device to build it on.
    """

    def __init__(
        self, resolved: RunSpec, num_epochs: int, states: Sequence[Mapping[str, Tensor]] | None, device: torch.device
    ) -> None:
        config, count = resolved.config, resolved.num_blocks
        self._seed, self._task, self._device = config.seed, resolved.specs[-1].task, device
        self._autocast, self._wires = config.run.autocast != "none", wires_of(resolved)
        blocks = range(count)
        self._rules = build_rules(resolved, resolved.blueprints, blocks, device)
        self._stage = build_stage(
            resolved, self._rules, blocks, device, batch_size=1, stash=False, learn_after="stage"
        )
        self._frozen, self._passing = resolved.frozen, resolved.passing
        # Once, and before the weights are loaded: what a rule changes at the beginning of an epoch is among them.
        self._stage.begin(Plan(max(num_epochs - 1, 0), resolved.modes, (0,) * count))
        for rule, state in zip(self._rules, states or (), strict=states is not None):
            rule.load_state_dict(state)

    @property
    def num_blocks(self) -> int:
        """Blocks of the network."""
        return len(self._rules)

    def weights(self) -> list[list[Tensor]]:
        """The matrices and kernels of each block, those of its rule left out; biases and scales are none.

        They are the network's own, on its device: nothing here steps them, and who keeps them keeps their memory.
        """
        return [
            [p.detach() for p in rule.block.parameters() if p.requires_grad and p.dim() > 1]
            for rule in self._rules
        ]

    def learned(self, x: Tensor, y: Tensor) -> Gradients:
        """The rule's gradients on one batch, in training mode and without delay. Args: x (batch, ...), y its labels."""
        stage = self._stage
        self._begin_training()
        stage.forward(_KEY, x, y, 1.0)
        stage.learn_at_once(_KEY)
        if stage.topology is Topology.SETTLE:
            _settle(stage.settling(_KEY))
        if stage.waits:
            stage.learn(_KEY, ())
        return [[p.grad for p in rule.block.parameters() if p.requires_grad] for rule in self._rules]

    def backpropagated(self, x: Tensor, y: Tensor) -> Gradients:
        """Gradients of the output loss by autograd, through the same blocks with the same random numbers."""
        self._begin_training()
        h = x
        with self._rounding():
            for k, rule in enumerate(self._rules):
                reseed(mix(derive(self._seed, "forward", k), _KEY), self._device)
                h = rule.block(h if self._wires is None else self._wires.passed(k, h))
            loss = self._task.loss(at_least_float32(h), y)
        by_block = [[p for p in rule.block.parameters() if p.requires_grad] for rule in self._rules]
        every = [p for parameters in by_block for p in parameters]
        grads = iter(torch.autograd.grad(loss, every, allow_unused=True))
        return [[next(grads) for _ in parameters] for parameters in by_block]

    @torch.no_grad()
    def look(self, x: Tensor, y: Tensor, seen: Seen | None = None) -> list[Tensor | None]:
        """Run a batch forward in evaluation mode.

        Args:
            x: inputs, (batch, ...).
            y: labels, (batch, *task.label_shape).
            seen: called with each block's output during the pass.

        Returns:
            Scores (batch, *task.out_shape) of each block's own decoder; None where it has none.
        """
        self._stage.begin_evaluation()
        contexts = self._evaluate(0, x, y, seen)
        with self._rounding():
            decoded = [rule.decode(contexts[k]) for k, rule in enumerate(self._rules)]
        return [None if scores is None else at_least_float32(scores) for scores in decoded]

    @torch.no_grad()
    def test(self, test: Feed, passes: int, seen: Callable[[int, Tensor, Tensor], None]) -> list[float | None]:
        """Test accuracy of every block that has a decoder, as the run evaluates it; None of the others.

        Args:
            test: the test set.
            passes: passes per sample, one below the other in a batch.
            seen: called with each block's output and the labels: ``seen(block, out, y)``.
        """
        self._stage.begin_evaluation()
        for index in range(test.num_batches):
            x, y = (t if passes == 1 else torch.cat([t] * passes) for t in test.batch(0, index))
            contexts = self._evaluate(index, x, y, lambda k, out, y=y: seen(k, out, y))  # type: ignore[misc]
            self._stage.evaluation.score(contexts, y, passes)
        return [row["test_accuracy"] for row in self._stage.scores()]

    def _evaluate(self, index: int, x: Tensor, y: Tensor, seen: Seen | None) -> dict[int, Any]:
        """Run a batch forward and settle it; returns the contexts by block."""
        evaluation = self._stage.evaluation

        def tap(block: int, h: Tensor, _: Tensor) -> None:
            if seen is not None and block > 0:
                seen(block - 1, h)

        out, contexts = evaluation.forward(x, y, index, tap)
        if seen is not None:
            seen(self.num_blocks - 1, out)
        if self._stage.topology is Topology.SETTLE:
            _settle(evaluation.settling(contexts))
        return contexts

    def _begin_training(self) -> None:
        """Set training mode, but for frozen blocks, and clear the gradients."""
        for k, rule in enumerate(self._rules):
            rule.train(k not in self._frozen or k in self._passing)
            rule.block.train(k not in self._frozen)
            rule.zero_grad()

    def _rounding(self) -> AbstractContextManager[object]:
        """Context in the run's precision: autocast, or none."""
        return autocast(self._device) if self._autocast else nullcontext()


def _settle(settling: Settling) -> None:
    """Run all rounds; no block is outside of this stage."""
    for index in range(settling.num_rounds):
        settling.round(index, (), ())
