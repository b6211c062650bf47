"""Backpropagation through non-differentiable units, with an estimate in place of their derivative."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.activation import Smooth
from pipeline.learning.affine import run
from pipeline.learning.dense import Dense
from pipeline.learning.descent import descend
from pipeline.learning.hard_unit import cut_at_hard_unit
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.saved_weights import Kept
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32

__all__ = ["Estimated"]


class Estimated(LearningRule):
    """Base of the estimators: ``b = g(f(m a))`` forward, and 1 or ``m f'(m a)`` for db/da in the backward pass.

    All other layers keep their exact gradients. A block without a hard part g is trained by backpropagation, without
    the slope m.

    Args:
        block: at most one of its layers is a :class:`~pipeline.network.hard_units.NonDifferentiable`, directly in
            ``nn.Sequential``.
        rule: name of the rule, for error messages.
        whole: True takes the derivative of the whole unit g(f(m a)) for 1, False that of g alone.
        sloped: True adds the slope m, a buffer ``slope`` that starts at 1.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    topology = Topology.NEIGHBOUR
    feedback_is_gradient = True
    slope: Tensor | None

    def __init__(self, block: Block, spec: BlockSpec, rule: str, *, whole: bool, sloped: bool = False) -> None:
        super().__init__(block, spec)
        self.unit = cut_at_hard_unit(block, rule)
        self.whole = whole
        self.register_buffer("slope", torch.ones(()) if sloped and self.unit.g is not None else None)
        self.f = Smooth.of(self.unit.f)
        self.dense: Dense | None = self.unit.affine(spec.in_shape)
        self.draws = self.dense is None or self.unit.g is not None or not self.f.is_known

    def leave_to_autograd(self) -> None:
        """See :class:`LearningRule`."""
        self.dense, self.draws = None, True

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(out, y, x)``, out with its graph; or in closed form
        ``(out, y, x, m a, f(m a), kept weight)`` without one."""
        sends = self.training and not self.spec.is_first
        if self.dense is not None:
            a = self._sloped(self.dense.forward(x))
            z = self.f.run(a)
            out = z if self.unit.g is None else self.unit.g(z)
            return out, (out, y, x, a, z, self._keep() if sends else None)
        if sends:
            x = x.detach().requires_grad_()
        out = run(self.unit.after, self._estimate(run(self.unit.before, x)))
        return out.detach(), (out, y, x)

    def propagate(self, x: Tensor) -> Tensor:
        """See :class:`LearningRule`."""
        return run(self.unit.after, self._estimate(run(self.unit.before, x)))

    def _keep(self) -> Kept:
        """The linear layer's weight in its present version."""
        linear = self.unit.before[-1]
        assert isinstance(linear, nn.Linear)
        return Kept(linear.weight)

    def _sloped(self, a: Tensor) -> Tensor:
        return a if self.slope is None else a * self.slope

    def _estimate(self, a: Tensor) -> Tensor:
        """Run the unit, with the estimate for its derivative in the graph."""
        z = self.f.run(self._sloped(a))
        if self.unit.g is None:
            return z
        way_back = a if self.whole else z
        out: Tensor = _PassThrough.apply(way_back, self.unit.g(z.detach()))  # type: ignore[no-untyped-call]
        return out

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one tensor of the activation's shape."""
        if self.dense is not None:
            return self._learn_dense(context, feedback, weight, self.dense)
        out, y, x = context
        loss = descend(self.spec, out, y, feedback, weight)
        return Learned(loss, () if self.spec.is_first else (x.grad,))

    def _learn_dense(self, context: Any, feedback: tuple[Tensor, ...], weight: float, dense: Dense) -> Learned:
        """:meth:`learn` in closed form, with the same bits."""
        out, y, x, a, z, kept = context
        loss = None
        if self.spec.is_last:
            loss, delta = self.spec.task.loss_and_error(at_least_float32(out), y, weight)
        else:
            delta = feedback[0]
        if self.unit.g is None or not self.whole:
            delta = self._sloped(self.f.derive(delta, a, z))
        dense.learn(x, a, delta)
        return Learned(loss, () if kept is None else ((delta @ kept.tensors()[0]).view(x.shape),))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[0].detach() if self.spec.is_last else None


class _PassThrough(torch.autograd.Function):
    """Returns the second argument, and passes the gradient on to the first."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return b.view_as(b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
