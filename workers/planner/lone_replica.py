"""What the exchange of gradients asks of one of several replicas, without the others.

A replica packs the gradients of a block as soon as the block has learned, gives the others their parts, adds up what
they bring to its own, and unpacks the sums in front of a step (:mod:`pipeline.engine.exchange`). Every message is
copied in by one and out by the other. What is copied is as large as the parameters, so it comes from main memory, and
takes several times as long as the messages by which :mod:`workers.planner.wire_costs` measures a byte.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engine.exchange import exchanged
from pipeline.engine.gradients import GradientVector, vectors_of
from pipeline.engine.stage import Stage

__all__ = ["pack_gradients"]


@dataclass(slots=True)
class _Block:
    """Gradients of one block, from a micro-batch on until the step."""

    parameters: Sequence[nn.Parameter]
    vectors: list[GradientVector]
    chunks: list[list[Tensor]] | None = None
    slots: dict[tuple[bool, int], Tensor] = field(default_factory=dict)
    """Memory of messages: of those that come or that go, by their elements."""

    def take(self) -> None:
        """Takes them away, if there are any, and adds what others bring to the own chunks."""
        if all(parameter.grad is None for parameter in self.parameters):
            return
        self.chunks = []
        for vector in self.vectors:
            chunks, present = vector.take()
            vector.add(chunks[0], present)
            for chunk in chunks[1:]:
                self._send(chunk)
                vector.add(self._received(chunks[0]), present)
            self.chunks.append(chunks)

    def put(self) -> None:
        """Makes the sums the gradients again."""
        if self.chunks is not None:
            for vector, chunks in zip(self.vectors, self.chunks, strict=True):
                for _ in chunks[1:]:
                    self._send(vector.own_sum())
                vector.put([vector.own_sum(), *map(self._received, chunks[1:])])
            self.chunks = None

    def _send(self, chunk: Tensor) -> None:
        """Copies a chunk to where another replica would find it."""
        self._slot(False, chunk).copy_(chunk)

    def _received(self, like: Tensor) -> Tensor:
        """A chunk of zeros, copied from where another replica would have put it."""
        return self._slot(True, like).clone()

    def _slot(self, comes: bool, like: Tensor) -> Tensor:
        """Memory of a message of that size."""
        if (comes, like.numel()) not in self.slots:
            self.slots[comes, like.numel()] = torch.zeros_like(like)
        return self.slots[comes, like.numel()]


def pack_gradients(stage: Stage, replicas: int) -> Callable[[], None]:
    """Has a stage that runs alone treat its gradients as one of several replicas does; they are right no longer.

    Args:
        stage: in which this is changed for good.
        replicas: of the stage, this one included.

    Returns:
        What unpacks them, to be called in front of each step.
    """
    trained = [exchanged(stage, k) for k in stage.blocks]
    blocks = [_Block(some, vectors_of(some, replicas, 0)) for some in trained if some]

    def packing(learn: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the stage, and what a replica does behind it."""

        def learned(*args: Any) -> Any:
            """Learns, and packs."""
            told = learn(*args)
            for block in blocks:
                block.take()
            return told

        return learned

    stage.learn_at_once = packing(stage.learn_at_once)  # type: ignore[method-assign]
    stage.learn = packing(stage.learn)  # type: ignore[method-assign]

    def unpack() -> None:
        for block in blocks:
            block.put()

    return unpack
