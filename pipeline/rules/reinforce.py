"""REINFORCE: every sampling unit learns from its own deviation and the sample's loss alone (Williams 1992)."""

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pipeline.learning.affine import run
from pipeline.learning.dense import Dense
from pipeline.learning.descent import descend
from pipeline.learning.hard_unit import cut_at_hard_unit
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import NonNegative, Range

__all__ = ["Reinforce", "build"]


class Reinforce(LearningRule):
    """REINFORCE: ``delta_i = (l_i - c)(b_i - p_i) / batch``, with l_i the loss of sample i.

    Its mean over samples of b is the gradient of the expected loss. The last block descends on the output loss and
    sends all others one number per sample, the smallest feedback of any rule. c is 0, or with ``adjusted`` each unit's
    own ``E[(b - p)^2 l] / E[(b - p)^2]``, the baseline of least variance; a running mean over earlier batches, so that
    it leaves the mean of delta alone.

    Source: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning"
    (1992); the baseline from Bengio, Léonard and Courville (2013).

    Args:
        block: hidden blocks have a logistic Bernoulli unit, directly in ``nn.Sequential``, and train nothing after it.
        adjusted: True subtracts the baseline of least variance.
        decay: share of the past in the running means, at least 0, below 1.
        hidden_rate: see :func:`build`.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    topology = Topology.BROADCAST
    weighted_losses: Tensor
    """Running mean of ``(b - p)^2 l`` of each unit."""
    squares: Tensor
    """Running mean of ``(b - p)^2`` of each unit."""

    def __init__(
        self,
        block: Block,
        spec: BlockSpec,
        *,
        adjusted: bool = False,
        decay: float = 0.99,
        hidden_rate: float = 1.0,
    ) -> None:
        super().__init__(block, spec)
        self.unit = cut_at_hard_unit(block, "reinforce")
        self.adjusted = adjusted and not spec.is_last
        self.decay = decay
        self.rate = 1.0 if spec.is_last else hidden_rate
        if not spec.is_last:
            self._check()
        if self.adjusted:
            self.notes_batches = True
            self.register_buffer("weighted_losses", torch.zeros(spec.body_shape))
            self.register_buffer("squares", torch.zeros(spec.body_shape))
        plain = isinstance(block.outlet, nn.Identity)
        self.dense: Dense | None = self.unit.affine(spec.in_shape) if plain else None
        self.draws = self.dense is None or not spec.is_last

    def _check(self) -> None:
        f, g = self.unit.f, self.unit.g
        trained = [type(m).__name__ for m in self.unit.after if any(True for _ in m.parameters())]
        if not isinstance(f, nn.Sigmoid) or not isinstance(g, Bernoulli) or trained:
            given = "a block that draws nothing" if g is None else f"{type(f).__name__} and {type(g).__name__}"
            behind = f", {', '.join(trained)} with parameters behind it" if trained else ""
            raise ValueError(
                "reinforce trains blocks that end with a logistic Bernoulli unit "
                f"(given: {given}{behind}, expected: Sigmoid and "
                'Bernoulli at the end of the block). Set model.activation to "bernoulli" and model.boundary to "post".'
            )

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """See :class:`LearningRule`."""
        ((trained, _),) = super().parameter_groups()
        return [(trained, self.rate)]

    def leave_to_autograd(self) -> None:
        """See :class:`LearningRule`."""
        self.dense, self.draws = None, True

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(a, b - p, y, x)``, a with its graph or in closed form without
        one; in the last block a is its output, and in place of b - p stands None."""
        if self.spec.is_last:
            out = self.block(x) if self.dense is None else self.dense.forward(x)
            return out.detach(), (out, None, y, x)
        a = run(self.unit.before, x) if self.dense is None else self.dense.forward(x)
        assert self.unit.g is not None
        p = self.unit.f(a.detach())
        b = self.unit.g(p)
        return run(self.unit.after, b), (a, at_least_float32(b) - at_least_float32(p), y, x)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback``, and the last block's ``upstream``, is the loss of every sample
        times ``weight``, (batch, 1)."""
        a, deviation, y, x = context
        if self.spec.is_last:
            return self._learn_output(a, y, x, weight)
        losses = feedback[0].view(-1, *[1] * (deviation.dim() - 1))
        delta = (losses - self._baseline(losses, deviation, weight)) * deviation / len(deviation)
        if self.dense is not None:
            self.dense.learn(x, a, delta)
        elif a.requires_grad:  # not so for a block without parameters
            torch.autograd.backward(a, delta.to(a.dtype))
        return Learned(None)

    def _learn_output(self, out: Tensor, y: Tensor, x: Tensor, weight: float) -> Learned:
        """:meth:`learn` of the last block: descends on the output loss and sends every sample's loss."""
        losses = self.spec.task.sample_losses(at_least_float32(out.detach()), y)
        if self.dense is None:
            loss = descend(self.spec, out, y, (), weight)
        else:
            loss, error = self.spec.task.loss_and_error(out, y, weight)
            self.dense.learn(x, out, error)
        return Learned(loss, (losses.view(-1, 1) * weight,))

    def _baseline(self, losses: Tensor, deviation: Tensor, weight: float) -> Tensor | float:
        """``weight * c`` from the batches before this one, which then joins them."""
        if not self.adjusted:
            return 0.0
        squares = deviation * deviation
        baseline = torch.where(self.squares > 0, self.weighted_losses / self.squares, 0.0) * weight
        self.weighted_losses.lerp_((squares * losses).mean(0) / weight, 1.0 - self.decay)
        self.squares.lerp_(squares.mean(0), 1.0 - self.decay)
        return baseline

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[0].detach() if self.spec.is_last else None


def build(
    block: Block,
    spec: BlockSpec,
    *,
    adjusted: bool = False,
    decay: Annotated[float, Range(0, 1, below=True)] = 0.99,
    hidden_rate: NonNegative = 1.0,
) -> LearningRule:
    """Make the rule of one block.

    Args:
        block: hidden blocks have a logistic Bernoulli unit, directly in ``nn.Sequential``, and train nothing after it.
        adjusted: True subtracts each unit's baseline of least variance from the loss.
        decay: share of the past in the baseline's running means, at least 0, below 1.
        hidden_rate: factor on the learning rate of hidden blocks, whose gradients are far noisier than the last one's;
            at least 0.

    Raises:
        ValueError: ``block`` is not of that form, or a number is out of range.
    """
    if not hidden_rate >= 0:
        raise ValueError(
            f"a learning rate cannot be negative (given: rule.hidden_rate = {hidden_rate}, expected: at least 0). "
            "Change it."
        )
    if not 0 <= decay < 1:
        raise ValueError(
            f"the decay of a running mean is out of range (given: rule.decay = {decay}, expected: at least 0, "
            "below 1). Change it."
        )
    return Reinforce(block, spec, adjusted=adjusted, decay=decay, hidden_rate=hidden_rate)
