"""Direct feedback alignment inside a recurrent cell: the error of each step goes to that step's pre-activation."""

from typing import Any

from torch import Tensor

from pipeline.learning.elman_block import ElmanBlock
from pipeline.learning.projection import Projection, ProjectionOptions
from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32

__all__ = ["CellFeedbackAlignment"]


class CellFeedbackAlignment(LearningRule):
    """DFA of a hidden recurrent block: ``delta_t = e_t B`` at ``h_t``, with no error from later steps.

    ``G_V = sum_t delta_t^T z_(t-1)``, ``G_W = sum_t delta_t^T x_t``. As the error enters at the pre-activation there is
    no factor f'. Where a sample has one label its error is that of every step. The last block is that of ``dfa``.

    Source: named, without equations or experiments, by Breloff; B is that of Nøkland, "Direct Feedback Alignment
    Provides Learning in Deep Neural Networks" (2016).

    Args:
        block: an Elman layer, or a linear layer and a smooth unit; see :class:`ElmanBlock`.
        options: of B.

    Raises:
        ValueError: the block has another form.
    """

    topology = Topology.BROADCAST
    learns_from = ANY_LABELS
    matrix: Tensor

    def __init__(self, block: Block, spec: BlockSpec, options: ProjectionOptions) -> None:
        super().__init__(block, spec)
        self.parts = ElmanBlock.of(block, "dfa with inject = 'cell'")
        self.draws = not self.parts.f.is_known
        self.project = Projection(self, options, spec.task.num_outputs, spec.out_shape[-1])

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is the pass's :class:`~pipeline.learning.elman_block.Steps`."""
        steps = self.parts.forward(x, keeps=False)
        return steps.sent, steps

    def learn(self, context: Any, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` is e, of the network's output's shape."""
        h, error = context.h, at_least_float32(feedback[0])
        delta = self.project(error, weight)
        is_one = error.dim() == 2 and h.dim() == 3  # one error for all steps of a sample
        self.project.learn(error, h[:, -1] if is_one else h)
        self.parts.learn(context, delta.unsqueeze(1).expand(h.shape) if is_one else delta.view(h.shape), 1.0)
        return Learned(None)

    def decode(self, context: Any) -> Tensor | None:
        """None: it is the last block that decodes."""
        return None
