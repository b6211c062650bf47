"""Synthetic gradients in time: backpropagation inside a chunk, and a model of the gradient from behind it."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.descent import descend_on
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule
from pipeline.learning.synthesiser import Synthesiser
from pipeline.network.block import Block
from pipeline.network.recurrent import Carried, Edges, carried_in
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import Count, Natural, Positive
from pipeline.rules.backprop import Backprop

__all__ = ["EdgeGradients", "build"]


class EdgeGradients(Backprop):
    """Truncated backpropagation through time, its cut closed: ``g_T = M(s_T)`` stands for what later chunks would send.

    s is the state that a recurrent layer carries. At a chunk's right edge g_T is added to the error of the chunk's own
    loss. At its left edge M descends on ``mean_i |M(s_0)_i - d_i|^2``, d the error that reaches s_0 from this chunk,
    *its own g_T included*: so M learns from itself about all that follows. Where a sequence begins M learns nothing,
    and where one ends g_T is 0. Gradients are those of single samples, without the mean's 1/B. Each layer of a block
    has a model of its own, and blocks talk to each other as under ``backprop``. Samples that are whole sequences have
    no such edges, and the rule is ``backprop``.

    Source: Jaderberg et al., "Decoupled Neural Interfaces using Synthetic Gradients" (2017), section 2.1. Here M sees
    no labels.

    Args:
        block: any block; its recurrent layers are :class:`pipeline.network.recurrent.Recurrent`.
        spec: its place.
        models: M of each of them, in their order.
        rate: factor on the learning rate of M.
    """

    learns_from = ANY_LABELS
    passes_frozen = False  # its models learn

    def __init__(self, block: Block, spec: BlockSpec, models: list[Synthesiser], rate: float) -> None:
        super().__init__(block, spec)
        self.models, self.rate = nn.ModuleList(models), rate
        self._carried: list[Carried] = [carried for _, carried in carried_in(block)]
        for carried in self._carried:
            carried.records = True

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """See :class:`LearningRule`."""
        blocks, models = ([p for p in part.parameters() if p.requires_grad] for part in (self.block, self.models))
        return [(blocks, 1.0), (models, self.rate)]

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, out, y, edges of every layer)``."""
        out, context = super().forward(x, y)
        edges = tuple(carried.edges for carried in self._carried)
        for carried in self._carried:
            carried.edges = None
        return out, (*context, edges)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. A block with a model reports its squared distance, where it has learned."""
        x, out, y, edges = context
        share = weight / len(y)
        loss = self.spec.task.loss(out, y) if self.spec.is_last else None
        roots, gradients = [out if loss is None else loss * weight], [feedback[0] if feedback else None]
        for model, edge in zip(self.models, edges, strict=True):
            if not edge.is_end and edge.end.requires_grad:  # not so behind a cut, for a layer of fixed weights
                with torch.no_grad():
                    guess = model(_rows(edge.end), y).view(edge.end.shape)
                roots.append(edge.end)
                gradients.append((guess * share).to(edge.end.dtype))
        if roots[0].requires_grad:  # not so for a first block without parameters
            torch.autograd.backward(roots, gradients)
        residuals = [self._regress(m, e, y, weight) for m, e in zip(self.models, edges) if e.start is not None]
        if loss is None and residuals:
            loss = torch.stack(residuals).mean()
        return Learned(None if loss is None else loss.detach(), () if self.spec.is_first else (x.grad,))

    def _regress(self, model: nn.Module, edge: Edges, y: Tensor, weight: float) -> Tensor:
        """One model learns from the error that has reached the left edge; its mean squared distance."""
        assert edge.start is not None, "no sequence begins"
        arrived = edge.start.grad
        target = torch.zeros_like(edge.start) if arrived is None else arrived * (len(y) / weight)
        distance: Tensor = model(_rows(edge.start), y) - at_least_float32(target).flatten(1)
        return descend_on(distance.square().sum(1).mean(), weight)


def _rows(state: Tensor) -> Tensor:
    """(rows, parts * width), without a graph."""
    return at_least_float32(state.detach()).flatten(1)


def build(
    block: Block, spec: BlockSpec, *, layers: Natural = 1, width: Count = 128, synthesiser_rate: Positive = 1.0
) -> LearningRule:
    """Make the rule of one block; see :class:`EdgeGradients`.

    Args:
        layers: hidden ones of a model, 0 for a linear one.
        width: units of its hidden layers.
        synthesiser_rate: factor on the learning rate of the models.
    """
    sizes = [carried.size for _, carried in carried_in(block)]
    models = [Synthesiser((size,), 0, layers=layers, width=width) for size in sizes]
    return EdgeGradients(block, spec, models, synthesiser_rate)
