"""Target propagation, with and without the difference correction: the base of tp and dtp."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.learning.activation import Smooth
from pipeline.learning.plain_dense import PlainDense, learn_linear
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.saved_weights import Kept
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import Natural, NonNegative, Positive

__all__ = ["TargetPropagation", "Targets"]

InverseUnit = Literal["tanh", "linear", "same"]
InverseInit = Literal["orthogonal", "xavier"]
Alternate = Literal["batch", "epoch"]


@dataclass(frozen=True, slots=True)
class Targets:
    """Options of target propagation, with and without the difference correction.

    Raises:
        ValueError: a number is out of range, or the reconstruction loss would be divided by 0.
    """

    step: Positive = 0.22
    """Of the topmost hidden block's target, against the gradient of the *batch-mean* loss; above 0."""
    noise: NonNegative = 0.084
    """Standard deviation of what G's input is disturbed by."""
    noise_halving: Natural = 0
    """Epochs after which the noise is ``noise / 2``, by ``noise / (1 + epoch / noise_halving)``; 0 for a constant
    noise."""
    inverse_rate: NonNegative = 1.0
    """Factor on the learning rate for the inverse."""
    inverse_activation: InverseUnit = "tanh"
    """Unit of the inverse, which should be that of the block below; ``same`` takes it to be this block's."""
    inverse_init: InverseInit = "orthogonal"
    """Initial weight of the inverse: ``orthogonal`` with singular values of 1, or ``xavier``, normal."""
    scale_reconstruction: bool = False
    """Divide the reconstruction loss by the noise's variance."""
    alternate: Alternate = "batch"
    """``batch`` trains inverse and block on every batch; ``epoch`` all inverses in epochs 0, 2, ... and all blocks in
    those between."""

    def __post_init__(self) -> None:
        if not (self.step > 0.0 and self.noise >= 0.0 and self.noise_halving >= 0 and self.inverse_rate >= 0.0):
            raise ValueError(
                "an option of target propagation is out of range (given: "
                f"rule.step = {self.step}, rule.noise = {self.noise}, "
                f"rule.noise_halving = {self.noise_halving}, rule.inverse_rate = {self.inverse_rate}; expected: "
                "rule.step above 0, the others at least 0). Change the one that is not."
            )
        if self.scale_reconstruction and self.noise == 0.0:
            raise ValueError(
                "cannot divide the reconstruction loss by a variance of 0 (given: rule.scale_reconstruction with "
                "rule.noise = 0.0, expected: rule.noise above 0). Change one of them."
            )

    def noise_at(self, epoch: int) -> float:
        """Standard deviation of the noise in an epoch, counted from 0; half of it after ``noise_halving`` epochs."""
        if self.alternate == "epoch":
            epoch //= 2
        return self.noise / (1.0 + epoch / self.noise_halving) if self.noise_halving else self.noise


class Inverse(nn.Module):
    """Learned inverse ``G(v) = f(v V^T + c)``, from a block's output to its input; c starts at 0.

    Args:
        sizes: features of the block's input and of its output.
        unit: the nonlinearity f.
        init: initialisation of V: singular values of 1, or Glorot's normal distribution.
    """

    def __init__(self, sizes: tuple[int, int], unit: nn.Module, init: InverseInit) -> None:
        super().__init__()
        num_in, num_out = sizes
        self.weight = nn.Parameter(torch.empty(num_in, num_out))
        self.bias = nn.Parameter(torch.zeros(num_in))
        if init == "orthogonal":
            nn.init.orthogonal_(self.weight)
        else:
            nn.init.xavier_normal_(self.weight)
        self.f = Smooth.of(unit)

    def run(self, codes: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Run G with given weights.

        Args:
            codes: (batch, features of the block's output).
            weight, bias: V and c in the version of the forward pass.

        Returns:
            ``codes V^T + c`` and G(codes), each (batch, features of the block's input).
        """
        a = torch.addmm(bias, codes, weight.t())
        return a, self.f.run(a)


class TargetPropagation(LearningRule):
    """Base of both rules: ``min_W ||F(z_(l-1)) - t_l||^2``, ``min_G ||G(F(z~)) - z~||^2``; t_(l-1) goes down.

    Both losses are sums over features and means over the batch. ``z~ = z_(l-1) + noise``; F(z~) is a constant to G's
    descent. The target of the topmost hidden block is ``z - step * dLoss/dz``, and the last block descends on the loss
    itself.

    Where a unit has a hard part g, the target is that of ``z = f(a)``: the feedback is relative to g(z), so that
    ``t = z + (feedback - g(z))``. G reads g of its argument, except for samples, where it reads probabilities.

    Args:
        block: one ``nn.Linear`` and its unit in ``nn.Sequential``, no normalisation, no dropout.
        spec: place of the block in the network.
        name: name of the rule, for messages.
        targets: options, see :class:`Targets`.
        difference: True sends down ``z_(l-1) + G(t_l) - G(z_l)``, False ``G(t_l)``.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    topology = Topology.NEIGHBOUR
    inverse: Inverse | None

    def __init__(self, block: Block, spec: BlockSpec, name: str, targets: Targets, *, difference: bool) -> None:
        super().__init__(block, spec)
        self.dense = PlainDense(block, spec, name)
        self.options = targets
        self.difference = difference
        self.noise = targets.noise
        self.trains_forward = self.trains_inverse = True
        # No inverse: the last block's target for the one below is a gradient step, and the first block sends none.
        self.inverse = None
        if not (spec.is_first or spec.is_last):
            sizes = prod(spec.in_shape), prod(spec.out_shape)
            self.inverse = Inverse(sizes, self._inverse_unit(), targets.inverse_init)
        self.draws = self.inverse is not None or self.dense.draws
        # G's output alone is a target for z; a difference or a gradient step is relative to the activation sent, g(z).
        self._relative = self.dense.g is not None and (difference or spec.index == spec.num_blocks - 2)

    def _inverse_unit(self) -> nn.Module:
        """Unit of the block below; with ``inverse_activation = "same"`` that of this block."""
        wanted = self.options.inverse_activation
        if wanted == "same":
            return self.dense.unit
        return nn.Tanh() if wanted == "tanh" else nn.Identity()

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """See :class:`LearningRule`: the block at the run's rate, its inverse at ``inverse_rate`` times that."""
        block = [p for p in self.block.parameters() if p.requires_grad]
        inverse = [] if self.inverse is None else list(self.inverse.parameters())
        return [(block, 1.0), (inverse, self.options.inverse_rate)]

    def begin_epoch(self, epoch: int) -> None:
        """See :class:`LearningRule`: sets this epoch's noise, and which of block and inverse is trained."""
        self.noise = self.options.noise_at(epoch)
        if self.options.alternate == "epoch":
            self.trains_inverse, self.trains_forward = epoch % 2 == 0, epoch % 2 == 1

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, a, z, out, y, kept)``; kept holds the present weights where
        there is an inverse."""
        kept = None
        if self.training and self.inverse is not None:
            kept = Kept(self.dense.weight, self.dense.bias, self.inverse.weight, self.inverse.bias)
        a, z = self.dense.forward(x)
        out = self.dense.sent(z)
        return out, (x, a, z, out, y, kept)

    @torch.no_grad()
    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are one target, of the activation's shape."""
        if self.spec.is_last:
            return self._learn_last(context, weight)
        x, a, z, out, _, kept = context
        target = z + (feedback[0] - out) if self._relative else feedback[0]
        off = z - target
        if self.trains_forward:
            self.dense.descend(x, self.dense.f.derive(off * (2.0 * weight / len(x)), a, z))
        loss = off.square().sum() / len(x)
        if kept is None:
            return Learned(loss)
        return Learned(loss, (self._invert(x.flatten(1), z, target, kept, weight).view(x.shape),))

    def _learn_last(self, context: Any, weight: float) -> Learned:
        """Descend on the output loss, and form the first target. Its step is against the gradient of the whole batch's
        mean loss, of which this micro-batch may be a part."""
        x, a, z, _, y, _ = context
        loss, error = self.spec.task.loss_and_error(at_least_float32(z), y, weight)
        delta = self.dense.f.derive(error, a, z)
        upstream: tuple[Tensor, ...] = ()
        if not self.spec.is_first:
            gamma = torch.mm(delta, self.dense.weight.to(delta.dtype))
            upstream = (x - self.options.step * gamma.view(x.shape),)
        if self.trains_forward:
            self.dense.descend(x, delta)
        return Learned(loss, upstream)

    def _invert(self, rows: Tensor, z: Tensor, target: Tensor, kept: Kept, weight: float) -> Tensor:
        """Form the target of the block below, and train G to invert F, both with the forward pass's weights."""
        inverse = self.inverse
        assert inverse is not None, "weights are kept only where there is an inverse"
        *own, back_weight, back_bias = kept.tensors()
        if self.trains_inverse:
            noisy = rows + self.noise * torch.randn_like(rows)
            codes = self._read(self.dense.forward(noisy, *own)[1])
            a, guess = inverse.run(codes, back_weight, back_bias)
            scale = 2.0 * weight / len(rows)
            if self.options.scale_reconstruction:
                scale /= self.noise**2
            learn_linear(inverse.weight, inverse.bias, codes, inverse.f.derive((guess - noisy) * scale, a, guess))
        aim = inverse.run(self._read(target), back_weight, back_bias)[1]
        if self.difference:
            aim = rows + (aim - inverse.run(self._read(z), back_weight, back_bias)[1])
        return aim

    def _read(self, z: Tensor) -> Tensor:
        """Input of G for z."""
        return z if isinstance(self.dense.g, Bernoulli) else self.dense.sent(z)

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        out: Tensor = context[3]
        return out if self.spec.is_last else None
