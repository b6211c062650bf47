"""Alternating minimisation in time: every step of an Elman layer has a code, found from the last one down."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.learning.codes import CodeSearch, nesterov
from pipeline.learning.elman_block import ElmanBlock, Steps
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.numerics.autocast import at_least_float32

__all__ = ["AlternatingInTime"]


class AlternatingInTime(LearningRule):
    """AM of a recurrent block: steps are layers with shared weights, and codes are their pre-activations.

    ``c0_t = W x_t + V f(c0_(t-1)) + b`` is what the block sends. From above come moves of these codes, of the last one
    alone where a sample has one label. From step T down, ``n`` steps of Nesterov's descent from ``c0_(t-1)`` and its
    own move find ``c_(t-1)``, on ``D(W x_t + V f(c) + b, c_t) + D(c, c0_(t-1))``. Then W, V and b regress on all pairs,
    ``D(W x_t + V f(c_(t-1)) + b, c_t)``, a mean over the batch and a sum over steps. The state before the first step is
    no code. Weights are those of the forward pass.

    Source: Choromanska et al., "Beyond Backprop: Online Alternating Minimization with Auxiliary Variables" (2019), for
    a net of 15 units of which it says no more; steps as layers of its sub-problem (5) are this project's reading.

    Args:
        block: an Elman layer that sends its pre-activations, the first block.
        spec: its place.
        search: options.

    Raises:
        ValueError: the block has another form, or another place.
    """

    topology = Topology.NEIGHBOUR

    def __init__(self, block: Block, spec: BlockSpec, search: CodeSearch) -> None:
        super().__init__(block, spec)
        self.search = search
        self.parts = ElmanBlock.of(block, "am", is_half=True)
        if not spec.is_first or spec.is_last:
            raise ValueError(
                f"am trains one recurrent layer, the first block (given: block {spec.index} of {spec.num_blocks}, "
                "expected: 0 of at least 2). Set model.depth to 1."
            )
        self.draws = not self.parts.f.is_known

    def unsuited(self, optimizer: str, options: Mapping[str, Any]) -> str:
        """See :class:`LearningRule`: plain descent scales no gradient up."""
        return self.search.objection(optimizer, self.spec.num_blocks)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The context is the pass's :class:`~pipeline.learning.elman_block.Steps`."""
        steps = self.parts.forward(x, keeps=self.training)
        return steps.sent, steps

    def learn(self, context: Steps, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. ``feedback`` is the codes' moves, (batch, length, units)."""
        steps = context
        with torch.no_grad():
            assert steps.before is not None, "the layer is recurrent"
            drive, recurrent = steps.drive(slice(None)), steps.recurrent
            codes = self._codes(steps.h + at_least_float32(feedback[0]), drive, recurrent)
            units = self.parts.f.run(codes)
            before = torch.cat([steps.before[:, :1].to(units.dtype), units[:, :-1]], 1)
            off = drive + before @ recurrent.t() - codes
            scale = self._scale(off[:, 0])
            loss = off.square().sum() * (scale / len(off))
        self.parts.learn(replace(steps, before=before), off, 2.0 * scale * weight / len(off))
        return Learned(loss)

    def _codes(self, anchor: Tensor, drive: Tensor, recurrent: Tensor) -> Tensor:
        """New codes of all steps, (batch, length, units).

        Args:
            anchor: codes of the forward pass with the moves from above.
            drive: ``W x_t + b``.
            recurrent: V.
        """
        found = [anchor[:, -1]]
        for t in reversed(range(anchor.shape[1] - 1)):
            found.append(self._search(anchor[:, t], found[-1], drive[:, t + 1], recurrent))
        return torch.stack(found[::-1], 1)

    def _search(self, start: Tensor, target: Tensor, drive: Tensor, recurrent: Tensor) -> Tensor:
        """The new code of one step. Args: target, the code of the step behind it."""
        f, search, factor = self.parts.f, self.search, 2.0 * self._scale(start)
        pull = search.sparsity / search.mu * self._scale(start)

        def gradient(code: Tensor) -> Tensor:
            """Of both distances, and of sparsity, by the code."""
            z = f.run(code)
            off = (drive + z @ recurrent.t() - target) * factor
            found = torch.add(f.derive(off @ recurrent, code, z), code - start, alpha=factor)
            return torch.add(found, code.sign(), alpha=pull) if pull else found

        return nesterov(start, gradient, search.code_steps, search.code_rate, search.code_momentum)

    def _scale(self, values: Tensor) -> float:
        return self.search.scale(values, self.spec.num_blocks)

    def decode(self, context: Any) -> Tensor | None:
        """None: it is the last block that decodes."""
        return None
