"""Synthetic gradients: blocks learn from a model of the gradient, the model later from what comes (Jaderberg 2017)."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pipeline.learning.descent import descend_on
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.synthesiser import Synthesiser
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import Count, Natural, Positive, Range

__all__ = ["SyntheticGradients", "build"]


class SyntheticGradients(LearningRule):
    """Decoupled neural interfaces: ``g = M_l(z_l, y)`` stands for the gradient of each sample's loss by ``z_l``.

    The block descends on g at once, and sends ``J^T g`` down, by which the model below learns; the last block sends the
    true gradient. When the message ``gamma_l`` comes, M_l descends on ``(1/B) sum_i |M_l(z_l, y)_i - gamma_(l,i)|^2``,
    with its weights of that time. No block's update waits, at any number of batches in flight; models learn late.

    ``mixing`` = lambda above 0 is BP(lambda): the block waits for the message, and descends on and sends down
    ``lambda gamma + (1 - lambda) g``; 1 is backpropagation.

    Messages are gradients of single samples, without the 1/B of the mean, so that M does not depend on the batch.

    Source: Jaderberg et al., "Decoupled Neural Interfaces using Synthetic Gradients" (2017).

    Args:
        block: any block; its output is a vector or maps.
        spec: its place.
        synthesiser: M, for the output's shape; None for the last block.
        rate: factor on the learning rate of M.
        mixing: lambda.
    """

    topology = Topology.NEIGHBOUR

    def __init__(
        self, block: Block, spec: BlockSpec, make: Callable[[], Synthesiser], *, rate: float, mixing: float
    ) -> None:
        super().__init__(block, spec)  # refuses labels, before a model is made that would refuse their shape
        self.synthesiser = None if spec.is_last else make()
        self.rate, self.mixing = rate, mixing

    @property
    def learns_at_once(self) -> bool:
        """See :class:`LearningRule`; hidden blocks are called again with the message."""
        return self.spec.is_last or self.mixing == 0.0

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """See :class:`LearningRule`."""
        models = [] if self.synthesiser is None else [p for p in self.synthesiser.parameters() if p.requires_grad]
        return [([p for p in self.block.parameters() if p.requires_grad], 1.0), (models, self.rate)]

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``[x, out, z, y]``, out with its graph and z without."""
        if self.training and not self.spec.is_first:
            x = x.detach().requires_grad_()
        out = self.block(x)
        return out.detach(), [x, out, out.detach(), y]

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. Feedback and ``upstream`` are one tensor of the activation's shape."""
        _, out, z, y = context
        if self.spec.is_last:
            loss = descend_on(self.spec.task.loss(at_least_float32(out), y), weight)
            return Learned(loss, self._upstream(context, weight))
        if not feedback:
            with torch.no_grad():
                guess = self._synthetic(z, y)
            upstream = self._descend(context, guess, weight)
            context[:2] = None, None  # only z and y are held until the message comes
            return Learned(None, upstream)
        guess = self._synthetic(z, y)
        residual = descend_on(at_least_float32(guess - feedback[0]).flatten(1).square().sum(1).mean(), weight)
        upstream = ()
        if self.mixing > 0.0:
            upstream = self._descend(context, torch.lerp(guess.detach(), feedback[0], self.mixing), weight)
        return Learned(residual, upstream)

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        out: Tensor = context[2]
        return out if self.spec.is_last else None

    def _synthetic(self, z: Tensor, y: Tensor) -> Tensor:
        """M's gradient of each sample."""
        assert self.synthesiser is not None, "the last block has the true one"
        found: Tensor = self.synthesiser(at_least_float32(z), self.spec.task.targets(y))
        return found

    def _descend(self, context: Any, gradient: Tensor, weight: float) -> tuple[Tensor, ...]:
        """The block's gradients from that of each sample; returns what goes down."""
        out = context[1]
        if out.requires_grad:  # not so for a first block without parameters
            torch.autograd.backward(out, (gradient * (weight / len(out))).to(out.dtype))
        return self._upstream(context, weight)

    def _upstream(self, context: Any, weight: float) -> tuple[Tensor, ...]:
        """The gradient of each sample's loss by the block's input; nothing from the first block."""
        x, y = context[0], context[3]
        return () if self.spec.is_first else (x.grad * (len(y) / weight),)


def build(
    block: Block,
    spec: BlockSpec,
    *,
    conditioned: bool = True,
    layers: Natural = 2,
    width: Count = 256,
    synthesiser_rate: Positive = 1.0,
    mixing: Annotated[float, Range(0, 1)] = 0.0,
) -> LearningRule:
    """Make the rule of one block; see :class:`SyntheticGradients`.

    Args:
        conditioned: the model sees the labels (cDNI).
        layers: hidden ones of the model, 0 for a linear one.
        width: units of its hidden layers; channels where the block's output is maps.
        synthesiser_rate: factor on the learning rate of the model.
        mixing: share of the true gradient, for which the block then waits.
    """
    num_labels = spec.task.num_outputs if conditioned else 0
    make = partial(Synthesiser, spec.out_shape, num_labels, layers=layers, width=width)
    return SyntheticGradients(block, spec, make, rate=synthesiser_rate, mixing=mixing)
