"""A stage: contiguous blocks hosted together, and what is held for them between forward and learning.

A stage is placement and never learning: each block has its own rule, its own seeds and its own optimizer state, so
the numbers are the same however blocks are laid on stages. What is shared is only the call: the graphs of blocks
with local losses are disjoint, so one backward over all their losses where the stage learns as a whole, and one
optimizer step over all its parameters, give the same bits with less overhead.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.engine.block_steppers import stepper_of
from pipeline.engine.evaluation import Evaluation
from pipeline.engine.feeds import Tap
from pipeline.engine.frozen import forward_frozen
from pipeline.engine.in_flight import Held, InFlight, Outbound
from pipeline.engine.settling import Settling, Tensors
from pipeline.engine.skip import Skip
from pipeline.engine.staleness import Staleness
from pipeline.learning.local_rule import has_graph
from pipeline.learning.rule import LearningRule, Topology
from pipeline.numerics.memory_format import laid_out
from pipeline.numerics.seeds import derive, mix, reseed
from pipeline.optim.block_optimizers import BlockOptimizers
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.records.reports import BlockScores
from pipeline.schedules.plan import BlockMode, Plan

__all__ = ["Stage"]


class Stage:
    """Blocks ``blocks`` of the network, each under its rule.

    Args:
        rules: one for each hosted block, in order, on ``device``.
        blocks: their indices in the whole network.
        num_blocks: of the whole network.
        optimizer: how parameters are stepped, or those of each block.
        lr: the learning rate's course.
        seed: the run's.
        batch_size: samples of a full micro-batch: frozen blocks always see that many, see :func:`forward_frozen`.
        stash: blocks that wait for feedback are stepped while they wait, see :class:`InFlight`.
        device: where the rules live.
        learn_after: see :attr:`groups`.
        channels_last: maps lie channels last in memory, here and between stages.
        nonfinite: see :attr:`pipeline.config.sections.TrainConfig.nonfinite`.
    """

    def __init__(
        self,
        rules: Sequence[LearningRule],
        blocks: range,
        num_blocks: int,
        *,
        optimizer: OptimizerSpec | BlockOptimizers,
        lr: LrSchedule,
        seed: int,
        batch_size: int,
        stash: bool,
        device: torch.device,
        learn_after: Literal["block", "stage"] = "block",
        channels_last: bool = False,
        nonfinite: Literal["stop", "skip", "ignore"] = "stop",
    ) -> None:
        self.blocks = blocks
        self.num_blocks = num_blocks
        self.device = device
        self.samples, self.channels_last = 0, channels_last
        self.round_feedback: Callable[[int, Tensors], Tensors] | None = None  # see pipeline.engine.wires
        self.tap: Tap | None = None
        self.staleness = Staleness(blocks)
        self.in_flight = InFlight(stash=stash)
        self.rules = dict(zip(blocks, rules, strict=True))
        self.evaluation = self._new_evaluation(seed)
        self.groups: list[range] = []
        """The active blocks in groups: each runs forward and learns at once before the next one runs.

        One block each, so that one block's activations are held and no more, unless a block here waits for feedback
        or ``learn_after`` asks for the whole stage: then the stage sends its activation on before any block learns.
        """
        self.looks_for_nonfinite = nonfinite != "ignore"
        self.skip = Skip(self.rules) if nonfinite == "skip" else None
        self.stepper = stepper_of(self.rules, optimizer, lr)
        self._forward_seeds = {k: derive(seed, "forward", k) for k in blocks}
        self._learn_seeds = {k: derive(seed, "learn", k) for k in blocks}
        self._batch_size = batch_size
        self._learn_after = learn_after
        self._active = range(0)
        self._training: list[int] = []
        self.waiting: list[int] = []  # blocks that learn when feedback has come
        self.at_once: frozenset[int] = frozenset()  # blocks that learn right after their forward pass

    def _new_evaluation(self, seed: int) -> Evaluation:
        """Of the stage's blocks."""
        return Evaluation(self.rules, seed, self.device, channels_last=self.channels_last)

    @property
    def topology(self) -> Topology:
        """Of all blocks; one run has one rule."""
        return next(iter(self.rules.values())).topology

    @property
    def hosts_last(self) -> bool:
        """The network's output is computed here."""
        return self.blocks.stop == self.num_blocks

    @property
    def waits(self) -> bool:
        """A block here learns only when feedback has come."""
        return bool(self.waiting)

    @property
    def needs_incoming(self) -> bool:
        """That feedback comes from another stage."""
        return self.waits and not self.hosts_last and self.topology is not Topology.SETTLE

    def begin(self, plan: Plan) -> None:
        """Puts every block into the mode that ``plan`` gives it."""
        self._active = plan.active(self.blocks)
        training = [k for k in self._active if plan.modes[k] is BlockMode.TRAIN]
        self.waiting = [k for k in training if self._awaits_feedback(k)]
        if training != self._training:
            weights = [p for k in training for p in self.rules[k].parameters()] if training else None
            late = [k for k in self.waiting if self.rules[k].learns_late]  # else the graph is gone by then
            self.in_flight.restart(weights, [p for k in late for p in self.stepper.parameters(k)] if late else None)
        self._training = training
        for k, rule in self.rules.items():
            rule.train(k in training)
            rule.begin_epoch(plan.epoch)
        self.at_once = frozenset(k for k in training if self.rules[k].learns_at_once)
        self.evaluation.begin_epoch(self._active)
        self.stepper.begin(plan, training)
        self.staleness.begin_epoch()
        whole = self._learn_after == "stage" or self.waiting or not training
        self.groups = [self._active] if whole else [range(k, k + 1) for k in self._active]

    def _awaits_feedback(self, block: int) -> bool:
        """Synthetic gradients learn at once and again later, so this is not the opposite of learning at once."""
        rule = self.rules[block]
        if rule.topology is Topology.SETTLE:
            return True
        return rule.topology is not Topology.LOCAL and not rule.spec.is_last

    def forward(self, key: int, x: Tensor, y: Tensor, weight: float, group: range | None = None) -> Tensor:
        """Runs a training micro-batch through active blocks.

        Args:
            key: of this micro-batch, unique in the run: its random numbers and what is held for it go by it.
            x: (batch, ...).
            y: labels, (batch, *task.label_shape).
            weight: its share of the optimizer step's samples.
            group: one of :attr:`groups`; None for all blocks at once.

        Returns:
            The activation to send on, (batch, ...), detached.
        """
        group = self._active if group is None else group
        saved = self.in_flight.watcher(key)
        if saved is None:
            return self._forward(key, x, y, weight, group)
        with saved.watch(x, y):
            x = self._forward(key, x, y, weight, group)
            if (held := self.in_flight.get(key)) is not None:
                saved.add(held.contexts.values())
        return x

    def _forward(self, key: int, x: Tensor, y: Tensor, weight: float, group: range) -> Tensor:
        """See :meth:`forward`."""
        held = self.in_flight.open(key, weight, y)
        for k in group:
            if self.tap is not None:
                self.tap(k, x, y)
            rule = self.rules[k]
            x = laid_out(x, maps_last=self.channels_last)
            if rule.draws:
                reseed(mix(self._forward_seeds[k], key), self.device)
            if rule.training:
                held.versions[k] = self.staleness.versions[k]
                if self.skip is not None:
                    self.skip.begin(k, self.evaluation.scores[k])
                x, held.contexts[k] = rule(x, y)
            else:
                x = forward_frozen(rule, x, y, self._batch_size, channels_last=self.channels_last)
        self.in_flight.ran_forward(key)
        if group.stop == self._active.stop:
            self.samples += len(y)
        return x

    def learn_at_once(self, key: int) -> list[Outbound]:
        """Lets the blocks learn that need no feedback; returns feedback for other stages."""
        held = self.in_flight.get(key)
        if held is None:
            return []
        ready = [k for k in held.contexts if k in self.at_once]
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
        held = self.in_flight[key]
        if incoming:
            takers = self.waiting if self.topology is Topology.BROADCAST else self.waiting[-1:]
            held.feedback.update(dict.fromkeys(takers, incoming))
        out: list[Outbound] = []
        for k in reversed(self.waiting):
            out += self._learn_block(key, held, k, held.feedback.pop(k, ()))
        return out

    def settling(self, key: int) -> Settling:
        """The exchange about a training micro-batch that is held, to be walked through before :meth:`learn`."""
        return self.evaluation.settling(self.in_flight[key].contexts)

    def _learn_fused(self, key: int, held: Held, ready: list[int]) -> list[int]:
        """One backward call for blocks whose graphs, if they have any, are disjoint; returns the others."""
        losses, others = [], []
        for k in ready:
            rule = self.rules[k]
            if not has_graph(rule):
                others.append(k)
                continue
            reseed(mix(self._learn_seeds[k], key), self.device)
            self.evaluation.note_answers(k, held.contexts[k], held.labels)
            loss = rule.loss(held.contexts.pop(k))
            self.staleness.learn(k, held.versions[k])
            self.evaluation.scores[k].add_loss(loss.detach(), held.num_samples)
            losses += [loss if held.weight == 1.0 else loss * held.weight] if loss.requires_grad else []
        if losses:
            torch.autograd.backward(losses)
        self.in_flight.release(key)
        return others

    def _learn_block(self, key: int, held: Held, block: int, feedback: tuple[Tensor, ...]) -> list[Outbound]:
        """One block; its context is let go unless it will learn again."""
        rule = self.rules[block]
        self.evaluation.note_answers(block, held.contexts[block], held.labels)
        again = not feedback and block in self.waiting and rule.learns_at_once
        context = held.contexts[block] if again else held.contexts.pop(block)
        if rule.draws:
            reseed(mix(self._learn_seeds[block], key), self.device)
        learned = rule.learn(context, feedback, weight=held.weight)
        self.staleness.learn(block, held.versions[block])
        if not again:
            self.evaluation.scores[block].add(learned, held.num_samples)
            self.in_flight.release(key)
        upstream = tuple(laid_out(tensor, maps_last=self.channels_last) for tensor in learned.upstream)
        return self._deliver(held, block, upstream) if upstream else []

    def _deliver(self, held: Held, block: int, tensors: tuple[Tensor, ...]) -> list[Outbound]:
        """Hands feedback to the hosted blocks it is for, and the rest back for sending."""
        if self.topology is Topology.BROADCAST:
            held.feedback.update(dict.fromkeys(self.waiting, tensors))
            return [Outbound(tensors, to_all=True)]
        if block - 1 in self.rules:
            held.feedback[block - 1] = tensors if self.round_feedback is None else self.round_feedback(block, tensors)
            return []
        return [Outbound(tensors, to_all=False)]

    def step(self, step: int = 0) -> None:
        """Steps every block that has gradients, those of the run's step ``step``, and clears them."""
        if self.skip is not None:
            self.staleness.forget(self.skip.decide())
        self.stepper.step(step)
        self.staleness.step()

    def begin_evaluation(self) -> Evaluation:
        """Puts every block into evaluation mode, until :meth:`begin`."""
        for rule in self.rules.values():
            rule.eval()
        return self.evaluation

    def scores(self) -> list[BlockScores]:
        """Losses and accuracies of this epoch, a row per active block; reading them is a synchronisation."""
        told, rows = self.stepper.told, self.evaluation.scores.items()
        return [{"block": k, "trained": k in self._training, **scores.read(), **told(k)} for k, scores in rows]

    def recent_loss(self) -> float | None:
        """The newest training loss of the topmost training block, for the live view."""
        return self.evaluation.scores[self._training[-1]].newest_loss() if self._training else None

    def state(self, block: int) -> dict[str, Tensor]:
        """Parameters and buffers of a block and of its rule, by name."""
        return self.rules[block].state_dict()

    def optimizer_bytes(self) -> int:
        """Bytes that the optimizer keeps per parameter, in all."""
        return self.stepper.num_bytes()
