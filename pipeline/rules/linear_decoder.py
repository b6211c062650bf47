"""Linear decoder: every block is trained through a linear decoder of the labels (Mertens 2023)."""

from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.task import Labels, scalar
from pipeline.learning.dense import Dense, accumulate
from pipeline.learning.heads import AveragePool
from pipeline.learning.local_rule import LocalRule, Output
from pipeline.learning.positions import check_maps, features_of
from pipeline.learning.rule import ANY_LABELS, BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32, exact_product
from pipeline.numerics.memory_format import in_memory_order
from pipeline.ranges import Natural

__all__ = ["LinearDecoder", "build"]

_aten = torch.ops.aten
_FORGET = 0.1  # share of the newest batch in the running class means, as in BatchNorm


class LinearDecoder(LocalRule):
    """Local rule: hidden blocks minimise ``mse(flatten(h) D^T, targets)``, a mean over all elements; D has no bias.

    Where the task has positions, D reads the features at each of them.

    With ``dimdec`` a map is average-pooled first, as under :mod:`pipeline.rules.pred`: a decoder of a whole map of
    65 536 features costs a tenth of the block's step.

    A fixed decoder of one output cannot always reach its targets: on features of length 1 its output stays within
    ||D||, about 0.58. The decision boundary is then not half way between the two targets but at the mid-point of the
    two classes' mean outputs. These are running means over *training* batches, so that a prediction depends neither
    on test labels nor on how the test set is cut into batches.

    Source: Dennis A. Mertens' notebook on local propagation by linear unprojections (2023). Deviations: the decoder is
    trained by default (the notebook never trains its own), and the lower blocks' activations are those before their
    update.
    """

    learns_from = ANY_LABELS
    decoder: Tensor
    class_means: Tensor

    def __init__(self, block: Block, spec: BlockSpec, *, trained: bool, mse: bool, dimdec: int = 0) -> None:
        super().__init__(block, spec, dense=Dense.of(block, spec.in_shape))
        shape = features_of(spec.task, spec.body_shape, "a linear decoder")
        if dimdec:
            check_maps(block, shape, "linear_decoder", dimdec)
        self.pool = AveragePool(shape, dimdec) if dimdec else nn.Identity()
        shape = self.pool.out_shape if isinstance(self.pool, AveragePool) else shape
        size, num_outputs = prod(shape), spec.task.num_outputs
        bound = 1.0 / size**0.5
        matrix = torch.empty(num_outputs, *shape).uniform_(-bound, bound)
        if trained:
            self.decoder = nn.Parameter(matrix)
        else:
            self.register_buffer("decoder", matrix)
        self.mse = mse
        numbers = spec.task.labels is Labels.NUMBERS
        self.scores_are_outputs = numbers or not mse
        self.moves_boundary = mse and not trained and num_outputs == 1 and not numbers
        self.notes_batches = self.moves_boundary
        if self.moves_boundary:
            self.register_buffer("class_means", torch.tensor([0.0, 1.0]))

    def loss(self, context: Any) -> Tensor:
        """The decoder's loss."""
        h, y = context[:2]
        decoded = self._decode(h)
        if self.moves_boundary and self.training:
            self._follow_classes(decoded.detach(), y)
        return self.decoded_loss(decoded, y)

    def descend(self, h: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See :class:`LocalRule`; the operations that autograd would call, without its graph."""
        parameter = self.decoder
        decoder = parameter.detach()
        decoded = torch.mm(h, decoder.t())
        if self.moves_boundary:
            self._follow_classes(decoded, y)
        if self.mse:
            targets = self.spec.task.targets(y).to(h.dtype)
            loss = _aten.mse_loss.default(decoded, targets)
            error = _aten.mse_loss_backward.default(scalar(weight, h.device, h.dtype), decoded, targets, 1)
        else:
            loss, error = self.spec.task.loss_and_error(decoded, y, weight)
        if parameter.requires_grad:
            accumulate(parameter, torch.mm(error.t(), h))
        return loss, torch.mm(error, decoder)

    def decode(self, context: Any) -> Tensor:
        """The decoder's raw output."""
        with torch.no_grad():
            return self._decode(context[0])

    def num_correct(self, scores: Tensor, y: Tensor) -> Tensor:
        """See :class:`LearningRule`; decides half way between the targets, or as the class describes."""
        if self.moves_boundary:
            return self.spec.task.num_correct(scores - self.class_means.mean(), y)
        if self.mse:
            return self.spec.task.num_correct_decoded(scores, y)
        return self.spec.task.num_correct(scores, y)

    def averaged(self, scores: Tensor) -> Tensor:
        """See :class:`LearningRule`; the outputs of a regression are averaged themselves."""
        return scores.mean(0) if self.mse else super().averaged(scores)

    def decoded_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """The block's training loss; see :class:`LearningRule`."""
        if self.mse:
            scores = at_least_float32(scores)
            return F.mse_loss(scores, self.spec.task.targets(y).to(scores.dtype))
        return self.spec.task.loss(scores, y)

    def _decode(self, h: Tensor) -> Tensor:
        if self.spec.task.positions:
            return F.linear(h, self.decoder)
        return F.linear(*in_memory_order(self.pool(h), self.decoder))

    def _follow_classes(self, decoded: Tensor, y: Tensor) -> None:
        """Update the running mean output of each class that this batch has samples of."""
        decoded = at_least_float32(decoded)
        members = torch.stack((y <= 0, y > 0)).to(decoded.dtype)  # (2, batch)
        counts = members.sum(1)
        means = exact_product(members, decoded).squeeze(1) / counts.clamp(min=1.0)
        self.class_means.lerp_(means, _FORGET * (counts > 0).to(means.dtype))


def build(
    block: Block,
    spec: BlockSpec,
    *,
    decoder: Literal["trained", "fixed"] = "trained",
    loss: Literal["mse", "cross_entropy"] = "mse",
    dimdec: Natural = 0,
) -> LearningRule:
    """Make the rule of one block; the last block descends on the output loss.

    Args:
        decoder: ``fixed`` leaves D at its initial values, uniform in +-1/sqrt(features).
        loss: loss of hidden blocks; ``cross_entropy`` is the task's own loss on the decoder's output.
        dimdec: features that the decoder of a convolutional block reads at most; the map is pooled to that. 0: all.
    """
    if spec.is_last:
        return Output(block, spec)
    return LinearDecoder(block, spec, trained=decoder == "trained", mse=loss == "mse", dimdec=dimdec)
