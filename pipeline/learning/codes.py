"""Alternating minimisation over codes and weights: the base of am and am_mem."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from pipeline.learning.repeatable import Repeatable
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.saved_weights import Kept
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import Natural, NonNegative, Positive, Range

__all__ = ["Alternating", "CodeSearch", "nesterov"]

Tensors = tuple[Tensor, ...]
_DEEP = 3
"""Blocks beyond which means over features leave the lowest codes where they are."""


@dataclass(frozen=True)
class CodeSearch:
    """Options of the search for a code, the same under both rules."""

    code_steps: Natural = 5
    """Of descent on a code, for each micro-batch."""
    code_rate: Positive = 0.0015
    """Of these steps, for each sample: a rate against the mean over a batch, divided by the batch size."""
    code_momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    """Of Nesterov's kind, which begins anew with each micro-batch."""
    mu: Positive = 0.003
    """Weight of the distances beside the output loss: the output loss moves the topmost code by 1/mu."""
    sparsity: NonNegative = 0.0
    """Factor on a code's absolute values, lambda_C, reduced as squares are; divided by mu, as the output loss is."""
    reduction: Literal["auto", "mean", "features"] = "auto"
    """Of a squared distance over the features of a sample: their mean, or their sum; auto takes means where am has up
    to two hidden blocks, and otherwise sums, as between the steps of a recurrent layer and under am_mem."""

    def scale(self, values: Tensor, num_blocks: int) -> float:
        """Factor on a sum over the features of a sample. Args: values, (batch, ...)."""
        return 1.0 / values[0].numel() if self.by_mean(num_blocks) else 1.0

    def by_mean(self, num_blocks: int) -> bool:
        """Whether distances are means over features in a network of so many blocks."""
        return num_blocks <= _DEEP if self.reduction == "auto" else self.reduction == "mean"

    def of_sums(self) -> "CodeSearch":
        """These options, with sums for auto."""
        return replace(self, reduction="features") if self.reduction == "auto" else self

    def objection(self, optimizer: str, num_blocks: int) -> str:
        """Why hidden blocks that descend on such distances learn nothing under ``optimizer``; empty where they do."""
        if optimizer != "sgd" or not self.by_mean(num_blocks):
            return ""
        return (
            f"means over features leave next to no gradient below the top (given: rule.reduction = {self.reduction} "
            f"with optimizer.name = {optimizer}, expected: features). Set rule.reduction."
        )


def nesterov(
    code: Tensor, gradient: Callable[[Tensor], Tensor], steps: int, rate: float, momentum: float
) -> Tensor:
    """Descend from ``code``, any shape, with Nesterov's momentum from rest; the first step is ``1 + momentum`` long."""
    velocity: Tensor | None = None
    for _ in range(steps):
        g = gradient(code)
        velocity = g if velocity is None else torch.add(g, velocity, alpha=momentum)
        code = torch.sub(code, torch.add(g, velocity, alpha=momentum), alpha=rate)
    return code


class Alternating(LearningRule):
    """Base of both rules: a better input of the block for its code, then better weights for the pair.

    With D the squared distance of a sample, over its features, and f the block as it ran forward from ``c0`` to its
    code: when the code ``t`` comes from above, ``n`` steps of Nesterov's descent from ``c0`` on ``D(f(c), t) + D(c,
    c0)``, in the last block on ``loss(f(c), y) / mu + D(c, c0)``; then the weights learn to map the result to ``t``, or
    to the label. What goes down is its distance from ``c0``, which the block below adds to what it had sent: the code
    is that block's own even where ``c0`` was rounded on its way up, and one that stays leaves no gradient. The first
    block's input is data and stays. Both use the weights of the forward pass; in the search, batch normalisation has
    the statistics of the forward pass, and dropout its masks throughout.

    The search is one for each sample: no 1/B, so that codes do not depend on how a batch is cut.

    Args:
        block: any block that can be run again, see :class:`Repeatable`.
        spec: its place.
        name: of the rule, for messages.
        search: options.
    """

    topology = Topology.NEIGHBOUR

    def __init__(self, block: Block, spec: BlockSpec, name: str, search: CodeSearch) -> None:
        super().__init__(block, spec)
        self.search = search
        self.layers = Repeatable(block, name)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, out, y, kept, constants)``: the weights, and what else the
        output depends on; the last two None in evaluation."""
        if not self.training:
            out: Tensor = self.block(x).detach()
            return out, (x, out, y, None, None)
        kept = Kept(*self.layers.trained) if self.layers.trained else None
        out, constants = self.layers.forward(x)
        return out, (x, out, y, kept, constants)

    def learn(self, context: Any, feedback: Tensors, *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one code's move, of the activation's shape."""
        x, out, y, kept, constants = context
        weights = () if kept is None else kept.tensors()
        target = None if self.spec.is_last else at_least_float32(out) + feedback[0]
        start = code = x
        if not self.spec.is_first:
            start = at_least_float32(x)
            code = self._search(start, target, y, weights, constants)
        loss = self.regress(code, target, y, (weights, constants), weight)
        if self.spec.is_last:
            loss = self.spec.task.loss(at_least_float32(out), y)
        return Learned(loss, () if self.spec.is_first else (code - start,))

    @abstractmethod
    def regress(
        self, code: Tensor, target: Tensor | None, y: Tensor, ran: tuple[Tensors, Any], weight: float
    ) -> Tensor:
        """Add the gradients of the weights; returns the loss that they descend on, detached.

        Args:
            code: new code of the block's input, or data in the first block.
            target: new code of its output; None in the last block.
            y: labels.
            ran: weights and constants of the forward pass.
            weight: share of the optimizer step's samples.
        """

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output in the forward pass; None below it."""
        out: Tensor = context[1]
        return out if self.spec.is_last else None

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """D summed over samples, 0-d."""
        off = at_least_float32(a) - b
        return off.square().sum() * self.search.scale(off, self.spec.num_blocks)

    def descend(
        self, code: Tensor, target: Tensor | None, y: Tensor, ran: tuple[Tensors, Any], weight: float
    ) -> Tensor:
        """A gradient step's worth of :meth:`regress`: on the mean over the batch of D, or on the output loss."""
        with torch.enable_grad():
            leaves = [w.requires_grad_() for w in ran[0]]
            out = self.layers.again(code, leaves, ran[1], statistics=True)
        end, factor = out.detach(), weight / len(y)
        if target is None:
            loss, error = self._output_slope(end, y, factor)
        else:
            loss, error = self.distance(end, target) / len(y), self._slope(end, target) * factor
        if leaves:
            found = torch.autograd.grad(out, leaves, error.to(out.dtype))
            for parameter, gradient in zip(self.layers.trained, found, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return loss

    def _search(
        self, start: Tensor, target: Tensor | None, y: Tensor, weights: Sequence[Tensor], constants: Any
    ) -> Tensor:
        """The new code of the block's input."""
        search = self.search
        pull = search.sparsity / search.mu * search.scale(start, self.spec.num_blocks)

        def gradient(code: Tensor) -> Tensor:
            """Of what the search descends on, by the code."""
            with torch.enable_grad():
                leaf = code.detach().requires_grad_()
                out = self.layers.again(leaf, weights, constants)
            end = out.detach()
            error = self._output_slope(end, y, 1.0 / search.mu)[1] if target is None else self._slope(end, target)
            (found,) = torch.autograd.grad(out, leaf, error.to(out.dtype))
            found = found + self._slope(code, start)
            return torch.add(found, code.sign(), alpha=pull) if pull else found

        return nesterov(start, gradient, search.code_steps, search.code_rate, search.code_momentum)

    def _slope(self, a: Tensor, b: Tensor) -> Tensor:
        """Derivative by ``a`` of D summed over samples."""
        off = at_least_float32(a) - b
        return off * (2.0 * self.search.scale(off, self.spec.num_blocks))

    def _output_slope(self, out: Tensor, y: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        """The mean output loss, and the derivative by ``out`` of ``factor`` times its sum over samples."""
        return self.spec.task.loss_and_error(at_least_float32(out), y, factor * len(y))
