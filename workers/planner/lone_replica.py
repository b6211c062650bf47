"""What the exchange of gradients asks of one of several replicas, but for the messages, without the others.

A replica packs the gradients of a block as soon as the block has learned, adds up its own part, and unpacks the sums in
front of a step (:mod:`pipeline.engine.exchange`). That is no small part of its work: what is packed is as large as its
parameters, and the next block's gradients find memory that is in the processor's cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pipeline.engine.gradients import GradientVector, vectors_of
from pipeline.engine.stage import Stage

__all__ = ["pack_gradients"]


@dataclass(slots=True)
class _Block:
    """Gradients of one block, from a micro-batch on until the step."""

    parameters: list[nn.Parameter]
    vectors: list[GradientVector]
    others: int
    """Replicas whose parts are added to the own one."""
    chunks: list[list[Tensor]] | None = None

    def take(self) -> None:
        """Takes them away, if there are any, and adds up the own chunks."""
        if all(parameter.grad is None for parameter in self.parameters):
            return
        self.chunks = []
        for vector in self.vectors:
            chunks, present = vector.take()
            for _ in range(1 + self.others):
                vector.add(chunks[0], present)
            self.chunks.append(chunks)

    def put(self) -> None:
        """Makes the sums the gradients again."""
        if self.chunks is not None:
            for vector, chunks in zip(self.vectors, self.chunks, strict=True):
                vector.put([vector.own_sum(), *chunks[1:]])
            self.chunks = None


def pack_gradients(stage: Stage, replicas: int) -> Callable[[], None]:
    """Has a stage that runs alone treat its gradients as one of several replicas does; they are right no longer.

    Args:
        stage: in which this is changed for good.
        replicas: of the stage, this one included.

    Returns:
        What unpacks them, to be called in front of each step.
    """
    trained = {k: list(stage.stepper.parameters(k)) for k in stage.blocks}
    blocks = [_Block(some, vectors_of(some, replicas, 0), replicas - 1) for some in trained.values() if some]

    def packing(learn: Callable[..., Any]) -> Callable[..., Any]:
        def learned(*args: Any) -> Any:
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
