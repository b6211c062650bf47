"""A stage: contiguous blocks hosted together, and what is held for them between forward and learning.

A stage is placement and never learning: each block has its own rule, its own seeds and its own optimizer state, so
the numbers are the same however blocks are laid on stages. What is shared is only the call: the graphs of blocks
with local losses are disjoint, so one backward over all their losses where the stage learns as a whole, and one
optimizer step over all its parameters, give the same bits with less overhead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor

from pipeline.engine.in_flight import Held, SavedTensors
from pipeline.engine.scores import Scores
from pipeline.engine.settling import Settling
from pipeline.engine.staleness import Staleness
from pipeline.engine.stepper import Stepper
from pipeline.learning.local_rule import LocalRule
from pipeline.learning.rule import LearningRule, Topology
from pipeline.numerics.memory_format import channels_last
from pipeline.numerics.seeds import derive, mix, reseed
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.records.time_budget import module_bytes
from pipeline.schedules.plan import BlockMode, Plan

__all__ = ["Outbound", "Stage", "Tap"]

Tap = Callable[[int, Tensor, Tensor], None]
"""Shown the input and the labels of a block on their way in: ``tap(block, x, y)``."""


@dataclass(slots=True)
class Outbound:
    """Feedback that leaves this stage: to the block below, or to every other stage."""

    tensors: tuple[Tensor, ...]
    to_all: bool


class Stage:
    """Blocks ``blocks`` of the network, each under its rule.

    Args:
        rules: one for each hosted block, in order, on ``device``.
        blocks: their indices in the whole network.
        num_blocks: of the whole network.
        optimizer: how parameters are stepped.
        lr: the learning rate's course.
        seed: the run's.
        batch_size: samples of a full micro-batch: frozen blocks always see that many, see :meth:`forward`.
        stash: whether blocks that wait for feedback are stepped while they wait, and so need the weights of their
            forward pass kept.
        device: where the rules live.
        learn_after: see :attr:`parts`.
        channels_last: whether maps lie channels last in memory, here and on the wires.
    """

    def __init__(
        self,
        rules: Sequence[LearningRule],
        blocks: range,
        num_blocks: int,
        *,
        optimizer: OptimizerSpec,
        lr: LrSchedule,
        seed: int,
        batch_size: int,
        stash: bool,
        device: torch.device,
        learn_after: Literal["block", "stage"] = "block",
        channels_last: bool = False,
    ) -> None:
        self.blocks = blocks
        self.num_blocks = num_blocks
        self.device = device
        self.channels_last = channels_last
        self.samples = 0
        self.tap: Tap | None = None
        self.staleness = Staleness(blocks)
        self._rules = dict(zip(blocks, rules, strict=True))
        self._stepper = Stepper(self._rules, optimizer, lr)
        self._forward_seeds = {k: derive(seed, "forward", k) for k in blocks}
        self._learn_seeds = {k: derive(seed, "learn", k) for k in blocks}
        self._eval_seeds = {k: derive(seed, "eval", k) for k in blocks}
        self._batch_size = batch_size
        self._held: dict[int, Held] = {}
        self.parts: list[range] = []
        """The active blocks in portions: each runs forward and learns at once before the next one runs.

        One block each, so that one block's activations are held and no more, unless a block here waits for feedback
        or ``learn_after`` asks for the whole stage: then the stage sends its activation on before any block learns.
        """
        self._active = range(0)
        self._training: list[int] = []
        self._waiting: list[int] = []
        self._at_once: frozenset[int] = frozenset()
        self._scores: dict[int, Scores] = {}
        self._stash = stash
        self._learn_after = learn_after
        self._saved: SavedTensors | None = None
        self._measured = -1
        self._max_held = 0
        self._held_bytes = 0

    @property
    def topology(self) -> Topology:
        """Of all blocks; one run has one rule."""
        return next(iter(self._rules.values())).topology

    @property
    def hosts_last(self) -> bool:
        """Whether the network's output is computed here."""
        return self.blocks.stop == self.num_blocks

    @property
    def waits(self) -> bool:
        """Whether a block here learns only when feedback has come."""
        return bool(self._waiting)

    @property
    def needs_incoming(self) -> bool:
        """Whether that feedback comes from another stage."""
        return self.waits and not self.hosts_last and self.topology is not Topology.SETTLE

    def begin(self, plan: Plan) -> None:
        """Puts every block into the mode that ``plan`` gives it."""
        self._active = plan.active(self.blocks)
        training = [k for k in self._active if plan.modes[k] is BlockMode.TRAIN]
        if training != self._training:
            self._held_bytes = self.held_bytes
            self._saved, self._max_held = None, 0
        self._training = training
        for k, rule in self._rules.items():
            rule.train(k in self._training)
            rule.begin_epoch(plan.epoch)
        self._waiting = [k for k in self._training if self._awaits_feedback(k)]
        self._at_once = frozenset(k for k in self._training if self._rules[k].learns_at_once)
        self._scores = {k: Scores(self._rules[k], self.device) for k in self._active}
        self._stepper.begin(plan, self._training)
        self.staleness.begin_epoch()
        self.parts = self._portions()

    def _portions(self) -> list[range]:
        """See :attr:`parts`."""
        if self._learn_after == "stage" or self._waiting or not self._training:
            return [self._active]
        return [range(k, k + 1) for k in self._active]

    def _awaits_feedback(self, block: int) -> bool:
        """Synthetic gradients learn at once and again later, so this is not the opposite of learning at once."""
        rule = self._rules[block]
        if rule.topology is Topology.SETTLE:
            return True
        return rule.topology is not Topology.LOCAL and not rule.spec.is_last

    def forward(self, key: int, x: Tensor, y: Tensor, weight: float, part: range | None = None) -> Tensor:
        """Runs a training micro-batch through active blocks.

        Frozen blocks see a batch filled up to its full size: a matrix product may round differently for another
        number of rows, and an activation must not depend on which batch its sample was in, or the cache of frozen
        outputs would change the result.

        Args:
            key: of this micro-batch, unique in the run: its random numbers and what is held for it go by it.
            x: (batch, ...).
            y: labels, (batch,).
            weight: its share of the optimizer step's samples.
            part: one of :attr:`parts`; None for all blocks at once.

        Returns:
            The activation to send on, (batch, ...), detached.
        """
        part = self._active if part is None else part
        saved = self._watcher(key)
        if saved is None:
            return self._forward(key, x, y, weight, part)
        with saved.watch():
            x = self._forward(key, x, y, weight, part)
            if key in self._held:
                saved.add(self._held[key].contexts.values())
        return x

    def _watcher(self, key: int) -> SavedTensors | None:
        """Who is to watch what this micro-batch leaves behind: the first one's size is measured, for it costs time,
        and where weights are stepped while blocks wait, those of every micro-batch are copied."""
        if not self._training:
            return None
        if self._saved is None:
            weights = (p for k in self._training for p in self._rules[k].parameters())
            stashed = (p for k in self._waiting for p in self._stepper.parameters(k))
            self._saved, self._measured = SavedTensors(weights, stashed if self._stash else ()), key
        return self._saved if key == self._measured or (self._stash and self._waiting) else None

    def _forward(self, key: int, x: Tensor, y: Tensor, weight: float, part: range) -> Tensor:
        """See :meth:`forward`."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(weight, len(y))
        for k in part:
            if self.tap is not None:
                self.tap(k, x, y)
            rule = self._rules[k]
            if self.channels_last:
                x = channels_last(x)
            if rule.draws:
                reseed(mix(self._forward_seeds[k], key), self.device)
            if rule.training:
                held.versions[k] = self.staleness.versions[k]
                x, held.contexts[k] = rule(x, y)
            else:
                x = self._forward_frozen(rule, x, y)
        if not held.contexts:
            del self._held[key]
        self._max_held = max(self._max_held, len(self._held))
        if part.stop == self._active.stop:
            self.samples += len(y)
        return x

    def _forward_frozen(self, rule: LearningRule, x: Tensor, y: Tensor) -> Tensor:
        """See :meth:`forward`."""
        missing = self._batch_size - len(x)
        with torch.no_grad():
            if missing > 0:
                padded = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
                padded = channels_last(padded) if self.channels_last else padded
                out: Tensor = rule(padded, torch.cat([y, y.new_zeros(missing)]))[0][: len(x)]
            else:
                out = rule(x, y)[0]
        return out

    def learn_at_once(self, key: int) -> list[Outbound]:
        """Lets the blocks learn that need no feedback; returns feedback for other stages."""
        held = self._held.get(key)
        if held is None:
            return []
        ready = [k for k in held.contexts if k in self._at_once]
        if len(ready) > 1:
            ready = self._learn_fused(key, held, ready)
        out: list[Outbound] = []
        for k in reversed(ready):
            out += self._learn_block(key, held, k, ())
        return out

    def learn(self, key: int, incoming: tuple[Tensor, ...]) -> list[Outbound]:
        """Lets the other blocks learn, from the top down; returns feedback for other stages.

        Args:
            key: of the micro-batch.
            incoming: feedback from another stage, empty where it comes from a block that is hosted here.
        """
        held = self._held[key]
        if incoming:
            takers = self._waiting if self.topology is Topology.BROADCAST else self._waiting[-1:]
            held.feedback.update(dict.fromkeys(takers, incoming))
        out: list[Outbound] = []
        for k in reversed(self._waiting):
            out += self._learn_block(key, held, k, held.feedback.pop(k, ()))
        return out

    def settling(self, key: int) -> Settling:
        """The exchange about a training micro-batch that is held, to be walked through before :meth:`learn`."""
        return self.evaluation_settling(self._held[key].contexts)

    def _learn_fused(self, key: int, held: Held, ready: list[int]) -> list[int]:
        """One backward call for blocks whose graphs are disjoint; returns the blocks that learn otherwise."""
        losses, others = [], []
        for k in ready:
            rule = self._rules[k]
            if not _has_graph(rule):
                others.append(k)
                continue
            reseed(mix(self._learn_seeds[k], key), self.device)
            loss = rule.loss(held.contexts.pop(k))
            self.staleness.learn(k, held.versions[k])
            self._scores[k].add_loss(loss.detach(), held.num_samples)
            losses.append(loss if held.weight == 1.0 else loss * held.weight)
        if losses:
            torch.autograd.backward(losses)
        self._release(key)
        return others

    def _learn_block(self, key: int, held: Held, block: int, feedback: tuple[Tensor, ...]) -> list[Outbound]:
        """One block; its context is let go unless it will learn again."""
        rule = self._rules[block]
        again = not feedback and block in self._waiting and rule.learns_at_once
        context = held.contexts[block] if again else held.contexts.pop(block)
        if rule.draws:
            reseed(mix(self._learn_seeds[block], key), self.device)
        learned = rule.learn(context, feedback, weight=held.weight)
        self.staleness.learn(block, held.versions[block])
        if not again:
            if learned.loss is not None:
                self._scores[block].add_loss(learned.loss, held.num_samples)
            if learned.credited is not None:
                self._scores[block].add_credit(learned.credited, held.num_samples)
            self._release(key)
        return self._deliver(held, block, learned.upstream) if learned.upstream else []

    def _deliver(self, held: Held, block: int, tensors: tuple[Tensor, ...]) -> list[Outbound]:
        """Hands feedback to the hosted blocks it is for, and the rest back for sending."""
        if self.topology is Topology.BROADCAST:
            held.feedback.update(dict.fromkeys(self._waiting, tensors))
            return [Outbound(tensors, to_all=True)]
        if block - 1 in self._rules:
            held.feedback[block - 1] = tensors
            return []
        return [Outbound(tensors, to_all=False)]

    def _release(self, key: int) -> None:
        """Forgets a micro-batch that every block has learned from."""
        if not self._held[key].contexts:
            del self._held[key]

    def step(self) -> None:
        """Steps every block that has gradients, and clears them."""
        self._stepper.step()
        self.staleness.step()

    def begin_evaluation(self) -> None:
        """Puts every block into evaluation mode, until :meth:`begin`."""
        for rule in self._rules.values():
            rule.eval()

    @torch.no_grad()
    def evaluate(self, x: Tensor, y: Tensor, index: int = 0) -> tuple[Tensor, dict[int, Any]]:
        """Runs a test batch forward.

        Args:
            x: (batch, ...).
            y: labels, (batch,).
            index: of the batch: a block that draws samples draws the same for it in every evaluation.

        Returns:
            The activation to send on, and contexts to be scored.
        """
        contexts: dict[int, Any] = {}
        for k in self._active:
            if self.tap is not None:
                self.tap(k, x, y)
            if self._rules[k].draws:
                reseed(mix(self._eval_seeds[k], index), self.device)
            x, contexts[k] = self._rules[k](channels_last(x) if self.channels_last else x, y)
        return x, contexts

    def evaluation_settling(self, contexts: dict[int, Any]) -> Settling:
        """As :meth:`settling`, for a test batch; to be walked through under ``no_grad``."""
        return Settling({k: self._rules[k] for k in self._active}, contexts)

    @torch.no_grad()
    def score(self, contexts: dict[int, Any], y: Tensor, passes: int = 1) -> None:
        """Scores a test batch at every block that has a decoder; see :class:`Scores` for several passes."""
        for k, context in contexts.items():
            self._scores[k].add_test(self._rules[k].decode(context), y, passes)

    def scores(self) -> list[dict[str, Any]]:
        """What this epoch gave, a row per active block; reading it is a synchronisation."""
        return [{"block": k, "trained": k in self._training, **s.read()} for k, s in self._scores.items()]

    def recent_loss(self) -> float | None:
        """The newest training loss of the topmost training block, for the live view."""
        return self._scores[self._training[-1]].newest_loss() if self._training else None

    def state(self, block: int) -> dict[str, Tensor]:
        """Parameters and buffers of a block and of its rule, by name."""
        return self._rules[block].state_dict()

    def parameter_bytes(self) -> int:
        """Parameters and buffers, decoders and feedback matrices included."""
        return module_bytes(self._rules.values())

    def optimizer_bytes(self) -> int:
        """What the optimizer keeps per parameter."""
        return self._stepper.num_bytes()

    @property
    def held_bytes(self) -> int:
        """Most that was kept for backward at any time: one micro-batch, measured, times the most held at once."""
        now = self._saved.num_bytes * self._max_held if self._saved is not None else 0
        return max(now, self._held_bytes)


def _has_graph(rule: LearningRule) -> TypeGuard[LocalRule]:
    """Whether the rule's loss may be differentiated together with those of other blocks: it has a graph, and the rule
    does nothing else when it learns."""
    return isinstance(rule, LocalRule) and rule.dense is None and type(rule).learn is LocalRule.learn
