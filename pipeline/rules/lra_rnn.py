"""Local representation alignment of recurrent nets: a fixed matrix gives every step its target (Ororbia 2018)."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from pipeline.data.task import Labels
from pipeline.learning.discrepancy import Discrepancy, bounded, discrepancy
from pipeline.learning.elman_block import ElmanBlock, Steps
from pipeline.learning.lra import Reduction
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.network.recurrent import LastStep
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import NonNegative, Positive, Range

__all__ = ["LraRecurrent", "RecurrentSettings", "build"]


@dataclass(frozen=True)
class RecurrentSettings:
    """Options of :class:`LraRecurrent`."""

    through_time: Literal[False, "fdbk", "diff"] = False
    """How a step gets a target from the one behind it: not at all, as printed; by a second fixed matrix; or by
    gradient steps on its pre-activation. Both ways end at the left edge of a chunk."""
    beta: Positive = 0.1
    """Factor on a displacement, and of a gradient step under ``diff``."""
    steps: Annotated[int, Range(1, 10_000)] = 1
    """Gradient steps for each target under ``diff``."""
    loss: Discrepancy = "l2"
    """Loss of units against their target, see :func:`~pipeline.learning.discrepancy.discrepancy`."""
    displacement_clip: NonNegative = 5.0
    """Greatest Euclidean norm of what a step of a sample is moved by, before the factor ``beta``; 0 for none."""
    error_std: NonNegative = 1.0
    """Standard deviation of the fixed matrices."""
    reduction: Reduction = "sum"
    """Of gradients over the batch and its steps."""


class LraRecurrent(LearningRule):
    """LRA of an Elman net: ``y_t = f(h_t - beta D_t)``, ``e_t = l'(z_t - y_t) f'(h_t)``, and all steps add up.

    ``h_t = W x_t + V z_(t-1) + b``, ``z_t = f(h_t)``; ``G_V = sum_t e_t z_(t-1)^T``, ``G_W = sum_t e_t x_t^T``. The
    last block's e_t is the derivative of step t's own output loss (of numbers, half their squared error). Down goes
    ``D_t = e_t E^T``, one E for all t, from N(0, error_std^2) and never trained. A chunk starts from the state behind
    the one before it, and no error passes between them. An embedding in front learns from ``e_t W``.

    As printed no target depends on a later step: what is in z_(t-1) is made use of, and how to *keep* something for
    later is never learned. ``through_time`` takes step t for the layer above step t - 1. With ``fdbk``
    ``D_(t-1) += e_t E_r^T``, E_r like E. With ``diff`` ``y_(t-1) = f(u)``, u being ``h_(t-1) - beta D_(t-1)`` after
    ``steps`` times ``u <- u - beta (e W_t) f'(u)``, where ``e W_t = (l'(f(a) - y_t) f'(a)) V`` with
    ``a = W x_t + V f(u) + b``.

    Source: Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018),
    appendix B, which has no experiment; beta, the bound, the reduction and f are not in print. Targets through time
    are this project's extension, by its algorithm 1.

    Args:
        block: an Elman layer, or a linear layer at each step and a smooth unit; see :class:`ElmanBlock`.
        settings: see :class:`RecurrentSettings`.

    Raises:
        ValueError: the block has another form.
    """

    topology = Topology.NEIGHBOUR
    learns_from = ANY_LABELS
    matrix: Tensor
    recurrent_matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec, settings: RecurrentSettings) -> None:
        super().__init__(block, spec)
        self.settings = settings
        self.parts = ElmanBlock.of(block, "lra_rnn")
        self.draws = not self.parts.f.is_known
        self._through = settings.through_time if self.parts.is_recurrent and not spec.is_last else False
        std = settings.error_std
        if not spec.is_first:
            self.register_buffer("matrix", torch.empty_like(self.parts.weight.detach()).normal_(0.0, std))
        if self._through == "fdbk" and self.parts.recurrent is not None:
            like = torch.empty_like(self.parts.recurrent.detach())
            self.register_buffer("recurrent_matrix", like.normal_(0.0, std))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(steps, y)``."""
        steps = self.parts.forward(x, keeps=self.training and self._through == "diff")
        return steps.sent, (steps, y)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` and ``upstream`` are displacements of the activation's shape, and
        carry no weight. Under ``sum`` parts of a batch add up as they are."""
        steps, y = context
        with torch.no_grad():
            if self.spec.is_last:
                loss, e = self._output_error(steps, y)
            else:
                loss, e = self._errors(steps, at_least_float32(feedback[0]))
            upstream = () if self.spec.is_first else (self._displacement(steps, e),)
        num_steps = e.numel() // e.shape[-1]
        self.parts.learn(steps, e, 1.0 if self.settings.reduction == "sum" else weight / num_steps)
        return Learned(loss, upstream)

    def _output_error(self, steps: Steps, y: Tensor) -> tuple[Tensor, Tensor]:
        """The task's loss, and each step's own error at the pre-activation."""
        task = self.spec.task
        labels_each = 0.5 * y.numel() if task.labels is Labels.NUMBERS else float(y.numel())
        error = task.error(steps.z, y) * labels_each
        return task.loss(steps.z, y), self.parts.f.derive(error, steps.h, steps.z)

    def _errors(self, steps: Steps, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """A hidden block's mean loss, and e of every step, of the shape of h."""
        if self._through is False:
            return self._aligned(steps.h, steps.z, self.parts.f.run(self._moved(steps.h, displacement)))
        losses, errors = [], []
        target: Tensor | None = None
        e = torch.zeros_like(steps.h[:, 0])
        for t in reversed(range(steps.h.shape[1])):
            h, z, moves = steps.h[:, t], steps.z[:, t], displacement[:, t]
            if self._through == "fdbk":
                target = self.parts.f.run(self._moved(h, moves + e @ self.recurrent_matrix))
            else:
                target = self._walked(steps, t, moves, target)
            loss, e = self._aligned(h, z, target)
            losses.append(loss)
            errors.append(e)
        return torch.stack(losses).mean(), torch.stack(errors[::-1], 1)

    def _aligned(self, h: Tensor, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of steps against their targets, all (..., units), and their e."""
        losses, d = discrepancy(self.settings.loss, (z - target).flatten(0, -2))
        return losses.mean(), self.parts.f.derive(d.view(h.shape), h, z)

    def _moved(self, h: Tensor, displacement: Tensor) -> Tensor:
        """Pre-activations less ``beta`` times what the bound leaves of displacements, all (..., units)."""
        moves = bounded(displacement.flatten(0, -2), self.settings.displacement_clip, rows=True).view(h.shape)
        return torch.sub(h, moves, alpha=self.settings.beta)

    def _walked(self, steps: Steps, t: int, displacement: Tensor, later: Tensor | None) -> Tensor:
        """The target of step t under ``diff``. Args: later, that of step t + 1; None behind the last step."""
        f, settings = self.parts.f, self.settings
        u = self._moved(steps.h[:, t], displacement)
        if later is None:
            return f.run(u)
        drive, recurrent = steps.drive(t + 1), steps.recurrent
        for _ in range(settings.steps):
            z = f.run(u)
            a = drive + z @ recurrent.t()
            out = f.run(a)
            e = f.derive(discrepancy(settings.loss, out - later)[1], a, out)
            u = self._moved(u, f.derive(e @ recurrent, u, z))
        return f.run(u)

    def _displacement(self, steps: Steps, e: Tensor) -> Tensor:
        """``e E^T`` of the shape of the block's input: zeros but at the last step, where that alone is read."""
        moves = e @ self.matrix
        if isinstance(self.parts.front, nn.Flatten):
            return moves.view(len(moves), *self.spec.in_shape)
        if not isinstance(self.parts.front, LastStep):
            return moves
        whole = moves.new_zeros(len(moves), *self.spec.in_shape)
        whole[:, -1] = moves
        return whole

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[0].sent if self.spec.is_last else None


def build(block: Block, spec: BlockSpec, *, settings: RecurrentSettings = RecurrentSettings()) -> LearningRule:
    """Make the rule of one block; see :class:`LraRecurrent`."""
    return LraRecurrent(block, spec, settings)
