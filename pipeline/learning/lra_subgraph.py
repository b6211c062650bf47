"""Local representation alignment of blocks of any kind: autograd differentiates the sub-graph inside the block."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.activation import Smooth, is_smooth_unit
from pipeline.learning.affine import layers_of, run
from pipeline.learning.dense import accumulate
from pipeline.learning.discrepancy import bounded, discrepancy
from pipeline.learning.halting import left_alone, limits_at_output, stops, verdict
from pipeline.learning.lra import Settings
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.learning.unit_split import parts_of_unit
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable
from pipeline.numerics.autocast import at_least_float32

__all__ = ["LraSubgraph"]


class LraSubgraph(LearningRule):
    """LRA-fdbk of convolutions, normalisations, dropout, residual pairs: whatever autograd differentiates.

    The body is ``g(f(F(x)))``: f its last layer, if that is a unit, else the identity, and g a hard part, which is run
    forward and bypassed back. The feedback D, a displacement of what is sent, is taken back through the outlet
    (pooling, dropout) to D'; ``t = f(a - beta D')`` with ``a = F(x)``; ``e = l'(f(a) - t) f'(a)``; gradients and ``d``
    are those of e by F's weights and by x, and down goes ``d E``: E is drawn from N(0, error_std^2) and fixed, a matrix
    of the input's features, or for maps of their channels, the same at every position. The last block's e is that of
    the output loss.

    Source: Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018),
    which claims it for blocks of this kind and has no experiment. E over channels is chosen here.

    Args:
        block: any; below the last, one whose outlet trains nothing.
        settings: see :class:`Settings`.
        error_std: standard deviation of E, at least 0.

    Raises:
        ValueError: the outlet of a hidden block has parameters, which e would not reach.
    """

    topology = Topology.NEIGHBOUR
    first_loss: Tensor
    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec, settings: Settings, error_std: float) -> None:
        super().__init__(block, spec)
        self.settings = settings
        if not spec.is_last and any(p.requires_grad for p in block.outlet.parameters()):
            raise ValueError(
                f"lra_fdbk does not train an outlet (given: {block.outlet} in block {spec.index}, expected: one "
                "without parameters to train). Move it into the body, or freeze it."
            )
        front, f, self.hard = _parts(block)
        self._front, self.f = front, Smooth.of(f)
        self._has_outlet = not isinstance(block.outlet, nn.Identity)
        if settings.halt and spec.is_last:
            self.notes_batches = True
            self.register_buffer("first_loss", torch.full((), float("nan")))
        if not spec.is_first:
            size = spec.in_shape[0]  # channels of a map
            size = size if len(spec.in_shape) == 3 else torch.Size(spec.in_shape).numel()
            self.register_buffer("matrix", torch.empty(size, size).normal_(0.0, error_std))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(x, a, sent, out, y)``: a with its graph from x, out with its
        graph from what the outlet was given, or all of them without where nothing is to be learned."""
        x = x.detach().requires_grad_(torch.is_grad_enabled() and not self.spec.is_first)
        if self.spec.is_last:
            out = self.block(x)
            return out.detach(), (x, out, out, out, y)
        a = run(self._front, x)
        z = self.f.run(a.detach())
        sent = z if self.hard is None else self.hard(z)
        if not self._has_outlet:
            return sent, (x, a, sent, sent, y)
        sent = sent.detach().requires_grad_(torch.is_grad_enabled())
        out = self.block.outlet(sent)
        return out.detach(), (x, a, sent, out, y)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`; feedback and upstream are as under the rule of plain blocks."""
        x, a, _, _, y = context
        if stops(feedback):
            return left_alone(x, None, is_first=self.spec.is_first)
        losses, e = self._output_error(a, y) if self.spec.is_last else self._error(context, feedback[0])
        credited: Tensor | None = None
        limits: tuple[Tensor, ...] = ()
        if self.settings.halt:
            whole = self.settings.halt_level == "batch"
            halt = verdict(losses, self._limits(losses, feedback), whole=whole)
            if whole and not halt.active[0]:
                return left_alone(x, losses.mean(), is_first=self.spec.is_first)
            e, limits, credited = halt.mask(e), (halt.limits,), halt.credited
        d = self._descend(x, a, e, weight)
        upstream = () if d is None else (self._projected(d), *limits)
        return Learned(losses.mean(), upstream, credited)

    @torch.no_grad()
    def _error(self, context: Any, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """A hidden block's loss of each sample, (batch,), and e, of the shape of a."""
        _, a, sent, out, _ = context
        settings = self.settings
        moves = displacement.view(out.shape).to(out.dtype)
        if self._has_outlet:
            (moves,) = torch.autograd.grad(out, sent, moves)
        a = at_least_float32(a.detach())
        moves = bounded(at_least_float32(moves).flatten(1), settings.displacement_clip, rows=True).view(a.shape)
        z = self.f.run(a)
        target = self.f.run(torch.sub(a, moves, alpha=settings.beta))
        losses, d = discrepancy(settings.loss, (z - target).flatten(1))
        return losses, self.f.derive(d.view(a.shape), a, z)

    @torch.no_grad()
    def _output_error(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Each sample's own output loss, (batch,), and its derivative by the output."""
        scores = at_least_float32(out.detach())
        task = self.spec.task
        return task.sample_losses(scores, y), task.loss_and_error(scores, y, float(len(y)))[1]

    def _descend(self, x: Tensor, a: Tensor, e: Tensor, weight: float) -> Tensor | None:
        """Adds the gradients of the block's weights; returns the derivative by x, None in the first block."""
        mean = self.settings.reduction == "mean"
        parameters = [p for p in self.block.parameters() if p.requires_grad]
        inputs = [*parameters, *([] if self.spec.is_first else [x])]
        if not inputs:  # a first block that trains nothing
            return None
        found = list(torch.autograd.grad(a, inputs, e.to(a.dtype), allow_unused=True))
        d = None if self.spec.is_first else found.pop()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    # New memory either way: autograd may return one tensor for two weights that are added up.
                    gradient = gradient / len(e) if mean else gradient.clone()
                    gradient = bounded(gradient, self.settings.weight_clip, rows=False)
                    accumulate(parameter, gradient.mul_(weight) if mean and weight != 1.0 else gradient)
        return d

    @torch.no_grad()
    def _projected(self, d: Tensor) -> Tensor:
        """``d E``, of the shape of the block's input; bfloat16 under autocast, as what travels up."""
        d = at_least_float32(d)
        if d.dim() == 4:
            return torch.einsum("bchw,cd->bdhw", d, self.matrix)
        return (d.flatten(1) @ self.matrix).view(d.shape)

    def _limits(self, losses: Tensor, feedback: tuple[Tensor, ...]) -> Tensor:
        """See :mod:`pipeline.learning.halting`."""
        if not self.spec.is_last:
            return feedback[1]
        whole = self.settings.halt_level == "batch"
        return limits_at_output(self.first_loss, losses, self.settings.halt, whole=whole)

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[3].detach() if self.spec.is_last else None


def _parts(block: Block) -> tuple[tuple[nn.Module, ...], nn.Module, NonDifferentiable | None]:
    """The body without its last unit, and that unit's smooth and hard part, the identity and None if there is none."""
    body = tuple(layer for layer in layers_of(Block(block.body)) if not isinstance(layer, nn.Identity))
    cut = len(body)
    if cut and isinstance(body[cut - 1], NonDifferentiable):
        cut -= 1
    if cut and is_smooth_unit(body[cut - 1]):
        cut -= 1
    f, g = parts_of_unit(body[cut:], "lra_fdbk")
    return body[:cut], f, g
