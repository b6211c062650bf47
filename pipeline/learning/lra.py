"""Base of local representation alignment: a loss against a target, halting, and a block's gradient."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.learning.activation import Smooth
from pipeline.learning.dense import accumulate
from pipeline.learning.discrepancy import Discrepancy, bounded
from pipeline.learning.halting import left_alone, limits_at_output, stops, verdict
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.unit_split import check_vectors, parts_of_unit, split_at_unit
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import NonNegative, Positive

__all__ = ["LocalRepresentation", "Reduction", "Settings"]

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class Settings:
    """Options of both rules of local representation alignment.

    Raises:
        ValueError: a number is out of range, or a level of halting without a bound.
    """

    beta: Positive = 0.1
    """Factor on a displacement, above 0. Under lra_fdbk about 0.1 for tanh, and 1 for logistic units, whose derivative
    is small; under lra_diff that of each step."""
    loss: Discrepancy = "cauchy"
    """Loss of a hidden block against its target, see :func:`~pipeline.learning.discrepancy.discrepancy`."""
    weight_clip: NonNegative = 0.0
    """Greatest Euclidean norm of a weight's gradient and of a bias's, for each micro-batch; 0 for none."""
    displacement_clip: NonNegative = 5.0
    """Greatest Euclidean norm of what a sample is moved by in a step, before the factor ``beta``; 0 for none."""
    halt: NonNegative = 0.0
    """Share of the output's first mean loss: a sample halts where a block's loss is below it; 0 for never."""
    halt_level: Literal["sample", "batch"] = "sample"
    """``batch``: a whole micro-batch halts where its mean loss is below the bound, and nothing is computed below."""
    reduction: Reduction = "sum"
    """Of gradients over the batch. A rate for ``sum`` is one for ``mean`` divided by the batch size."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta is out of range (given: rule.beta = {self.beta}, expected: above 0). Raise it.")
        for name in ("weight_clip", "displacement_clip", "halt"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"a bound cannot be negative (given: rule.{name} = {getattr(self, name)}, expected: 0 for "
                    "none, or above). Change it."
                )
        if self.halt_level == "batch" and self.halt == 0:
            raise ValueError(
                f"nothing halts (given: rule.halt = {self.halt} with rule.halt_level = 'batch', expected: above 0). "
                "Raise rule.halt, or leave rule.halt_level out."
            )


class LocalRepresentation(LearningRule):
    """Base of both rules: ``e = l'(z - t) f'(a)``, ``G_W = e^T x`` with t the block's target.

    Subclasses provide the target and the feedback for the block below. That is no derivative and carries no weight.
    Where samples may halt, one number per sample goes with it: the loss below which the sample halts, infinite once
    it has; then neither this block nor any below is updated for it.

    Under ``sum`` a step descends on the sum over its samples' losses: the parts of a batch add up as they are, and
    ``weight`` is not used. Under ``mean`` each part's mean is weighted by its share of the samples.

    Args:
        block: a flattening or nothing, one ``nn.Linear`` and a unit.
        settings: options, see :class:`Settings`.
        name: name of the rule, for error messages.

    Raises:
        ValueError: ``block`` is not of that form.
    """

    topology = Topology.NEIGHBOUR
    first_loss: Tensor

    def __init__(self, block: Block, spec: BlockSpec, settings: Settings, name: str) -> None:
        super().__init__(block, spec)
        self.settings = settings
        self.split = split_at_unit(block, name)
        self._flattens, below, self.hard_below = _front(self.split.before, spec, name)
        self.below, self.f = Smooth.of(below), Smooth.of(self.split.f)
        self.begins_with_unit = self.hard_below is not None or not isinstance(below, nn.Identity)
        self.ends_with_unit = self.split.g is not None or not isinstance(self.split.f, nn.Identity)
        hard = self.hard_below is not None or self.split.g is not None
        self.draws = hard or not (self.below.is_known and self.f.is_known)
        # The parameters themselves: looking one up in its module costs as much as a small operation.
        self.affine = (self.split.affine.weight, self.split.affine.bias)
        if settings.halt and spec.is_last:
            self.notes_batches = True
            self.register_buffer("first_loss", torch.full((), float("nan")))

    @abstractmethod
    def compare(self, context: Any, target: Tensor) -> tuple[Tensor, Tensor]:
        """A hidden block's loss of each sample, (batch,), and e, (batch, features), not summed over the batch."""

    @abstractmethod
    def message(self, context: Any, e: Tensor, losses: Tensor, target: Tensor | None) -> Tensor:
        """Feedback for the block below, (batch, features of this block's input).

        Args:
            context: from ``forward``.
            e: see :meth:`compare`, with rows of 0 for the samples that have halted.
            losses: loss of each sample, (batch,).
            target: feedback from above; None in the last block, whose target is the label.
        """

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are a tensor of the activation's shape and, where
        samples may halt, their limits, (batch,). The context begins with the affine layer's input, a and y."""
        rows, a, y = context[:3]
        with torch.no_grad():
            if stops(feedback):
                return left_alone(rows, None, is_first=self.spec.is_first)
            target = None if self.spec.is_last else at_least_float32(feedback[0])
            losses, e = self.output_error(a, y) if target is None else self.compare(context, target)
            limits: tuple[Tensor, ...] = ()
            credited = None
            if self.settings.halt:
                whole = self.settings.halt_level == "batch"
                halt = verdict(losses, self._limits(losses, feedback), whole=whole)
                if whole and not halt.active[0]:  # waits for the device
                    return left_alone(rows, losses.mean(), is_first=self.spec.is_first)
                e, limits, credited = halt.mask(e), (halt.limits,), halt.credited
            upstream = () if self.spec.is_first else (self.message(context, e, losses, target), *limits)
            self._descend(e, rows, weight)
        return Learned(losses.mean(), upstream, credited)

    def pre_activation(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """``rows W^T + b`` without a graph. In bfloat16 under autocast: it is compared with its target in float32,
        from which a small beta would make it differ by less than the rounding."""
        return torch.addmm(bias.detach(), rows, weight.detach().t())

    def rows(self, x: Tensor) -> Tensor:
        """x, (batch, ...), as (batch, features)."""
        return x.flatten(1) if self._flattens else x

    def output_error(self, a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Each sample's own output loss, (batch,), and its derivative by a, (batch, num_outputs)."""
        task, out = self.spec.task, self.f.run(a)
        return task.sample_losses(out, y), self.f.derive(task.loss_and_error(out, y, float(len(y)))[1], a, out)

    def _limits(self, losses: Tensor, feedback: tuple[Tensor, ...]) -> Tensor:
        """The losses below which samples halt, (batch,), or the mean loss below which the batch does, (1,)."""
        if not self.spec.is_last:
            return feedback[1]
        whole = self.settings.halt_level == "batch"
        return limits_at_output(self.first_loss, losses, self.settings.halt, whole=whole)

    def _descend(self, e: Tensor, rows: Tensor, weight: float) -> None:
        """Add the gradients of the affine layer."""
        clip, share = self.settings.weight_clip, 1.0
        if self.settings.reduction == "mean":
            e, share = e * (1.0 / len(e)), weight
        for parameter in self.affine:
            if parameter.requires_grad:
                gradient = torch.mm(e.t(), rows) if parameter.dim() == 2 else e.sum(0)
                gradient = bounded(gradient.to(parameter.dtype), clip, rows=False)
                accumulate(parameter, gradient if share == 1.0 else gradient.mul_(share))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return self.f.run(context[1]) if self.spec.is_last else None


def _front(
    layers: Sequence[nn.Module], spec: BlockSpec, name: str
) -> tuple[bool, nn.Module, NonDifferentiable | None]:
    """The part of the block in front of its affine layer: True if it flattens its input, and the unit there.

    Raises:
        ValueError: its input has more than one dimension, or there are other layers.
    """
    check_vectors(spec, name)
    flattens = any(isinstance(layer, nn.Flatten) for layer in layers)
    f, g = parts_of_unit([layer for layer in layers if not isinstance(layer, nn.Flatten)], name)
    return flattens, f, g
