"""Backpropagation with a feedback matrix in place of the weight of each block's affine layer."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.affine import back_through, run, split_at_affine
from pipeline.learning.dense import Dense
from pipeline.learning.descent import descend
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block

__all__ = ["Alignment"]


class Alignment(LearningRule):
    """Base of feedback alignment: ``delta = gamma * phi'(a)``, ``G_W = delta^T z``, ``gamma_below = delta B``.

    Subclasses provide B. All other layers, normalisation among them, keep their exact gradients, so with B equal to
    the weight this is backpropagation. The first block sends no feedback and has no B, unless it trains layers in
    front of its affine one.

    The direction of what is sent back is only about that of the gradient, so it may be rounded, too.

    The graph is cut in front of the affine layer: its weight is not needed to learn later, and no time goes into
    the exact input gradient.

    Args:
        block: has exactly one ``nn.Linear`` or ``nn.Conv2d``, directly in ``nn.Sequential``.
        name: name of the rule, for error messages.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    topology = Topology.NEIGHBOUR
    feedback_is_gradient = True
    learns_from = ANY_LABELS
    rounds_feedback = True

    def __init__(self, block: Block, spec: BlockSpec, name: str) -> None:
        super().__init__(block, spec)
        self.split = split_at_affine(block, name)
        trains_before = any(True for m in self.split.before for _ in m.parameters())
        self.uses_matrix = trains_before or not spec.is_first
        plain = isinstance(block.outlet, nn.Identity)
        self.dense = Dense.of(block, spec.in_shape) if plain else None

    def leave_to_autograd(self) -> None:
        """See :class:`LearningRule`."""
        self.dense, self.draws = None, True

    def note(self) -> Tensor | None:
        """Record of the weight in the forward pass for :meth:`feedback_matrix`; None if it needs none.

        A copy, held until feedback arrives: the weight may have been stepped by then.
        """
        return None

    @abstractmethod
    def feedback_matrix(self, noted: Tensor | None) -> Tensor:
        """B, of the weight's shape. Args: noted, the result of :meth:`note` in the forward pass."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, u, deltas, out, y, noted)`` with u the affine layer's input;
        in closed form none of it has a graph."""
        if self.dense is not None:
            out = self.dense.forward(x)
            noted = self.note() if self.training and self.uses_matrix else None
            return out, (x, x, [], out, y, noted)
        if self.training and not self.spec.is_first and self.split.before:
            x = x.detach().requires_grad_()
        noted = self.note() if self.training and self.uses_matrix else None
        u = run(self.split.before, x)
        a = self.split.affine(u.detach())
        deltas: list[Tensor] = []
        if self.training and self.uses_matrix and not a.requires_grad:  # fixed weights still hand the error down
            a = a.requires_grad_().clone()  # no leaf: a layer behind it may work in place
        if a.requires_grad and self.uses_matrix:
            # Not retain_grad: a layer that works in place would move that to its own result.
            a.register_hook(deltas.append)
        out = run(self.split.after, a)
        return out.detach(), (x, u, deltas, out, y, noted)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one tensor of the activation's shape."""
        x, u, deltas, out, y, noted = context
        if self.dense is not None:
            return self._learn_dense(context, feedback, weight, self.dense)
        loss = descend(self.spec, out, y, feedback, weight)
        if not self.uses_matrix:
            return Learned(loss)
        error = back_through(self.split.affine, self.feedback_matrix(noted), deltas.pop(), u.shape)
        if u.requires_grad:
            torch.autograd.backward(u, error)
            error = x.grad
        return Learned(loss, () if self.spec.is_first else (error,))

    def _learn_dense(self, context: Any, feedback: tuple[Tensor, ...], weight: float, dense: Dense) -> Learned:
        """:meth:`learn` in closed form, with the same bits."""
        x, _, _, out, y, noted = context
        loss, error = self.spec.task.loss_and_error(out, y, weight) if self.spec.is_last else (None, feedback[0])
        delta = dense.learn(x, out, error)
        if self.spec.is_first:
            return Learned(loss)
        error = back_through(self.split.affine, self.feedback_matrix(noted), delta, x.shape)
        return Learned(loss, (error.view_as(x),))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[3].detach() if self.spec.is_last else None
