"""Direct feedback alignment: the output error goes straight to every block (Nøkland 2016)."""

from math import prod
from typing import Any, Literal

from torch import Tensor, nn

from pipeline.learning.affine import run
from pipeline.learning.dense import Dense
from pipeline.learning.descent import descend
from pipeline.learning.dfa_cell import CellFeedbackAlignment
from pipeline.learning.positions import features_of
from pipeline.learning.pre_activation import cut_at_pre_activation
from pipeline.learning.projection import Projection, ProjectionOptions
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32

__all__ = ["DirectFeedbackAlignment", "build"]


class DirectFeedbackAlignment(LearningRule):
    """Direct feedback alignment: ``gamma_l = e B_l`` at the block's output, exact gradients inside the block.

    The output is that after nonlinearity and pooling. e is the derivative of the output loss by the network's output,
    B_l (outputs x features of the block) is drawn uniform in +-1/sqrt(features) and never trained. Hidden blocks have
    no loss of their own. Where the task has positions, e is that at each of them, and B_l leads to the features there.

    With ``pre`` the error enters at the pre-activation: ``delta_l = e B_l`` without a factor phi'(a), so phi may be a
    threshold, whose derivative is 0. Features are then those of the pre-activation. The error does not vanish where a
    nonlinearity saturates, so weights may grow without bound; weight decay bounds them.

    Source: Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks" (2016). Deviation: e is that
    of the batch's *mean* loss, where his code sums. ``pre`` is Breloff's variant for hard thresholds, for which he
    gives no matrix; a normalisation right behind the affine layer counts as a part of the pre-activation.

    Args:
        block: with ``pre`` it has exactly one ``nn.Linear`` or ``nn.Conv2d``, directly in ``nn.Sequential``, and
            trains no layer behind it but its normalisation.
        pre: True lets a hidden block's error enter at the pre-activation, False at its output.
        options: of B, see :class:`~pipeline.learning.projection.ProjectionOptions`.

    Raises:
        ValueError: ``pre``, and ``block`` is not of that form.
    """

    topology = Topology.BROADCAST
    reaches_input = True
    learns_from = ANY_LABELS
    matrix: Tensor

    def __init__(
        self, block: Block, spec: BlockSpec, *, pre: bool = False, options: ProjectionOptions = ProjectionOptions()
    ) -> None:
        super().__init__(block, spec)
        self.cut = cut_at_pre_activation(block, spec, "dfa with inject = 'pre'") if pre and not spec.is_last else None
        if not spec.is_last:
            shape = spec.out_shape if self.cut is None else self.cut.shape
            size = prod(features_of(spec.task, shape, "the error of dfa"))
            self.project = Projection(self, options, spec.task.num_outputs, size)
        self.dense = self._dense()
        self._after = () if self.cut is None else self.cut.after
        self.draws = self.dense is None or bool(self._after)

    def _dense(self) -> Dense | None:
        """Closed form of the layers that the error passes through; None where they have none."""
        if self.cut is not None:
            return Dense.of(Block(nn.Sequential(*self.cut.before)), self.spec.in_shape)
        plain = isinstance(self.block.outlet, nn.Identity)
        return Dense.of(self.block, self.spec.in_shape) if plain else None

    def leave_to_autograd(self) -> None:
        """See :class:`LearningRule`."""
        self.dense, self.draws = None, True

    def error(self, out: Tensor, y: Tensor) -> Tensor:
        """Error that the last block broadcasts, before it is weighted.

        Args:
            out: the network's output without a graph, (batch, *task.out_shape).
            y: labels, (batch, *task.label_shape).

        Returns:
            (batch, *task.out_shape), float32 at least.
        """
        return self.spec.task.error(at_least_float32(out), y)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is ``(out, y)``, or with ``pre`` ``(a, y)`` with a the pre-activation;
        out and a with their graph. In closed form they have none, and x is the third."""
        if self.dense is not None:
            h = self.dense.forward(x)
            return run(self._after, h), (h, y, x)
        if self.cut is None:
            out = self.block(x)
            return out.detach(), (out, y)
        a = run(self.cut.before, x)
        return run(self.cut.after, a.detach()), (a, y)

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback``, and the last block's ``upstream``, is e, of the network's output's
        shape."""
        if self.dense is not None:
            return self._learn_dense(context, feedback, weight, self.dense)
        out, y = context
        if not self.spec.is_last:
            gamma = self.project(feedback[0], weight).view(out.shape)
            self.project.learn(feedback[0], out.detach())
            return Learned(descend(self.spec, out, y, (gamma,), weight))
        error = self.error(out.detach(), y) * weight
        return Learned(descend(self.spec, out, y, (), weight), (error,))

    def _learn_dense(self, context: Any, feedback: tuple[Tensor, ...], weight: float, dense: Dense) -> Learned:
        """:meth:`learn` in closed form, with the same bits."""
        h, y, x = context
        if not self.spec.is_last:
            dense.learn(x, h, self.project(feedback[0], weight))
            self.project.learn(feedback[0], h)
            return Learned(None)
        loss, error = self.spec.task.loss_and_error(h, y, weight)
        dense.learn(x, h, error)
        return Learned(loss, (self.error(h, y) * weight,))

    def decode(self, context: Any) -> Tensor | None:
        """The last block's output; None below it."""
        return context[0].detach() if self.spec.is_last else None


def build(
    block: Block, spec: BlockSpec, *, inject: Literal["out", "pre", "cell"] = "out",
    options: ProjectionOptions = ProjectionOptions(),
) -> LearningRule:  # fmt: skip
    """Make the rule of one block; see :class:`DirectFeedbackAlignment`.

    Args:
        inject: the place where the error enters a hidden block: its output, its pre-activation, or that of each step of
            a recurrent layer, see :class:`~pipeline.learning.dfa_cell.CellFeedbackAlignment`.
        options: of the projection.
    """
    if inject == "cell" and not spec.is_last:
        return CellFeedbackAlignment(block, spec, options)
    return DirectFeedbackAlignment(block, spec, pre=inject == "pre", options=options)
