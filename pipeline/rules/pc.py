"""Predictive coding: values between blocks settle, then every block learns from its own error (Whittington 2017)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import Count, Positive

__all__ = ["PredictiveCoding", "build"]

Tensors = tuple[Tensor, ...]
_CHANGED = (_DropoutNd, _BatchNorm, Bernoulli, nn.RReLU)
"""What draws anew in a second run, or keeps something of the first."""


class PredictiveCoding(LearningRule):
    """Predictive coding: block l predicts ``mu_l = f_l(v_(l-1))`` and is wrong by ``eps_l = v_l - mu_l``.

    The values begin at the forward pass, ``v_0 = x``, and relax together on the energy ``1/2 sum_l |eps_l|^2``, for T
    rounds ``v_l <- v_l - eta (eps_l - J_(l+1)^T eps_(l+1))``, J the derivative of the prediction by the value below.
    At the top ``eps_L = -dE/dmu_L``, E the sample's output loss: ``y - mu_L`` for a squared one. Then every block
    descends on its own error: ``G = -(dmu_l/dtheta)^T eps_l``, a mean over the batch.

    ``strict`` computes predictions anew from the values in each round. ``fixed`` leaves mu and J as they were in the
    forward pass; with eta = 1 and at least L - 1 rounds its gradients are those of backpropagation.

    Prediction is the forward pass. A block's loss is its own energy, that of the last one the output loss.

    Source: Whittington and Bogacz, "An Approximation of the Error Backpropagation Algorithm in a Predictive Coding
    Network with Local Hebbian Synaptic Plasticity" (2017); Millidge, Tschantz and Buckley, "Predictive Coding
    Approximates Backprop along Arbitrary Computation Graphs" (2020), for ``fixed``.

    Args:
        block: any block; under ``strict`` without dropout, batch norm and sampling units, which a second run changes.
        spec: its place.
        rounds: T.
        rate: eta.
        strict: see above.

    Raises:
        ValueError: ``strict`` cannot run the block twice.
    """

    topology = Topology.SETTLE
    settles_in_evaluation = False

    def __init__(self, block: Block, spec: BlockSpec, *, rounds: int, rate: float, strict: bool) -> None:
        super().__init__(block, spec)
        changed = [type(m).__name__ for m in block.modules() if isinstance(m, _CHANGED)]
        if strict and changed:
            raise ValueError(
                f"pc runs a block again in every round and {changed[0]} would not be the same (given: inference = "
                "strict, expected: blocks without dropout, batch norm and sampling units). Pass rule.inference=fixed, "
                "or take them out."
            )
        self.rounds, self.rate, self.strict = rounds, rate, strict
        self._reached = spec.num_blocks - 1 - spec.index
        """Updates after which the output's error is here: it comes down one block with each. Until then the value is
        what was predicted, to the bit, and until the next one so is the value below."""

    @property
    def num_rounds(self) -> int:
        """See :class:`LearningRule`. Errors go down and, under ``strict``, values come up in turns; after the last
        update every block looks at its error once more."""
        return 2 * self.rounds + 1 if self.strict else self.rounds + 1

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``[x, mu, v, eps, y, out]``; ``out`` stays what it was."""
        x, mu = self._predict(x)
        out = mu.detach()
        value = at_least_float32(out)  # what relaxes takes steps that bfloat16 would round away
        return out, [x, mu, value, torch.zeros_like(value), y, out]

    def settle(self, context: Any, index: int, below: Tensors, above: Tensors) -> tuple[Tensors, Tensors]:
        """See :class:`LearningRule`. Up goes the value, down the error's derivative by the value below."""
        if self.strict:
            if index % 2 == 1:
                self._relax(context, above)
                return (context[2],), ()
            index //= 2
            if below and index > self._reached:
                context[:2] = self._predict(below[0])
        elif index > 0:
            self._relax(context, above)
        return (), self._look(context, updates=index)

    def learn(self, context: Any, feedback: Tensors, *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`."""
        _, mu, _, error, y, out = context
        if mu.requires_grad:  # not so for a first block without parameters
            torch.autograd.backward(mu, -error.to(mu.dtype) * (weight / len(y)))
        if self.spec.is_last:
            return Learned(self.spec.task.loss(at_least_float32(out), y))
        return Learned(0.5 * at_least_float32(error).square().sum() / len(y))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output in the forward pass; None below it."""
        out: Tensor = context[5]
        return out if self.spec.is_last else None

    def _predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The input as a leaf where its derivative is asked for, and the prediction with its graph."""
        x = x.detach().requires_grad_(torch.is_grad_enabled() and not self.spec.is_first)
        return x, self.block(x)

    def _relax(self, context: Any, above: Tensors) -> None:
        """One update of the value above the block."""
        if above:
            context[2] = context[2] - self.rate * (context[3] - above[0])

    def _look(self, context: Any, updates: int) -> Tensors:
        """The block's error after so many updates; returns its derivative by the value below."""
        x, mu, value, _, y, _ = context
        if updates < self._reached:
            return () if self.spec.is_first else (torch.zeros_like(x),)
        if self.spec.is_last:
            context[3] = -len(y) * self.spec.task.error(at_least_float32(mu.detach()), y)
        else:
            context[3] = value - mu.detach()
        if self.spec.is_first:
            return ()
        (derivative,) = torch.autograd.grad(mu, x, context[3].to(mu.dtype), retain_graph=True)
        return (derivative,)


def build(
    block: Block,
    spec: BlockSpec,
    *,
    inference: Literal["strict", "fixed"] = "strict",
    rounds: Count = 10,
    rate: Positive = 0.05,
) -> LearningRule:
    """Make the rule of one block; see :class:`PredictiveCoding`.

    Args:
        inference: ``fixed`` keeps the predictions of the forward pass.
        rounds: updates of the values for each batch.
        rate: of these updates; 1 under ``fixed`` gives backpropagation.
    """
    return PredictiveCoding(block, spec, rounds=rounds, rate=rate, strict=inference == "strict")
