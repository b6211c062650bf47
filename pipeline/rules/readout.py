"""Readout: every block is trained by the last block's read-out matrix, which is published now and then."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.learning.aux_head import FullNorm
from pipeline.learning.local_rule import LocalRule, Output
from pipeline.learning.positions import features_of
from pipeline.learning.rule import ANY_LABELS, BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.ranges import Count

__all__ = ["SharedReadOut", "build"]


class SharedReadOut(LocalRule):
    """Local rule: hidden blocks minimise ``task.loss(norm(h) W^T + b, y)``, W a version of the last block's matrix.

    W is read only; the norm, an RMSNorm, and the bias b, where the network's read-out may have one, are the block's
    own. Versions are those after steps 0, R, 2R, ...; a block that has been through t steps uses the one after step
    ``R (floor(t / R) - 1)``, and the one after step 0 before that: a function of the step alone, so that placement
    changes nothing. No block waits for a version as long as R steps take longer than the pipeline's transit.

    Source: none with code; a read-out that blocks share is that of an early exit by the final head, as in Elbayad et
    al., "Depth-Adaptive Transformer" (2020), whose head is trained by all exits.

    Args:
        block: its body gives a vector, or features at each position, of the width that the read-out takes.
        spec: its place.
        every: R.
        norm: normalise what is read.

    Raises:
        ValueError: the body gives something else.
    """

    learns_from = ANY_LABELS

    def __init__(self, block: Block, spec: BlockSpec, *, every: int, norm: bool) -> None:
        super().__init__(block, spec)
        shape = features_of(spec.task, spec.body_shape, "the shared read-out")
        if len(shape) != 1:
            raise ValueError(
                f"the shared read-out takes vectors (given: a body's output of shape {shape} in block {spec.index}, "
                "expected: (features,)). Choose rule aux, or let blocks end with vectors of one width."
            )
        self.publishes_every = every
        matrix = torch.empty(spec.task.num_outputs, shape[0]).uniform_(-1, 1) * shape[0] ** -0.5
        self.register_buffer("published", matrix)
        self.norm = FullNorm(shape[0]) if norm else nn.Identity()
        self.bias = nn.Parameter(torch.zeros(spec.task.num_outputs))

    def loss(self, context: Any) -> Tensor:
        """The task's loss on what the shared matrix reads."""
        h, y = context
        return self.spec.task.loss(self._read(h), y)

    def decode(self, context: Any) -> Tensor:
        """What the shared matrix reads."""
        with torch.no_grad():
            return self._read(context[0])

    def _read(self, h: Tensor) -> Tensor:
        return F.linear(self.norm(h), self.published, self.bias)


class _Source(Output):
    """The last block: descends on the output loss, and publishes the weight of its last linear layer.

    Raises:
        ValueError: it has no linear layer with as many outputs as the task.
    """

    def __init__(self, block: Block, spec: BlockSpec, *, every: int) -> None:
        super().__init__(block, spec)
        layers = [m for m in block.modules() if isinstance(m, nn.Linear)]
        if not layers or layers[-1].out_features != spec.task.num_outputs:
            raise ValueError(
                f"the last block has no read-out to share (given: {len(layers)} linear layers, expected: the last one "
                f"with {spec.task.num_outputs} outputs). Let the network end with an nn.Linear, or choose rule aux."
            )
        self.publishes_every = every
        self._linear = layers[-1:]  # in a list: it is the block's, and not to be registered again
        self.register_buffer("published", layers[-1].weight.detach().clone())

    def to_publish(self) -> Tensor:
        """See :class:`LearningRule`."""
        return self._linear[0].weight.detach()


def build(block: Block, spec: BlockSpec, *, every: Count = 50, norm: bool = True) -> LearningRule:
    """Make the rule of one block; the last one descends on the output loss.

    Args:
        every: steps between two versions of the matrix, R.
        norm: an RMSNorm of each block's own stands in front of the matrix.
    """
    if spec.is_last:
        return _Source(block, spec, every=every)
    return SharedReadOut(block, spec, every=every, norm=norm)
