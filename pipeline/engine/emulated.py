"""Emulated compute: rules that wait in place of computing, for as long as they are told to.

Stage, program, messages, evaluation and records are the run's own; only the arithmetic of a block is replaced. A block
allocates no weights: one output and one feedback tensor of the true size, the same in every step, are all that it
has, but for a gradient of the true size where it has replicas. Nothing is learned: there are no losses, and no block
has scores.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.learning.rule import ANY_LABELS, BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.resolve import RunSpec

__all__ = ["FORWARD_SHARE", "BlockSeconds", "Waiter", "emulated_rules", "even_seconds"]

FORWARD_SHARE = 1 / 3
"""Share of a block's time that is its forward pass, where it is not measured: learning is about twice as much."""
_LEAST_S = 1e-4
"""Shorter waits are saved up: a system sleeps no more exactly than that."""
_MOST_CREDIT_S = 0.005
"""What a sleep took too long is taken off the next ones, up to here; longer is the machine's being busy."""


@dataclass(frozen=True, slots=True)
class BlockSeconds:
    """Seconds that a block takes for each sample of a batch."""

    forward: float
    learn: float
    """With its share of the optimizer's step."""


class Waiter:
    """Sleeps for a given time on average: what one sleep took too long is taken off the next ones.

    One for each stage, whose blocks compute one after another. It never spins.
    """

    def __init__(self) -> None:
        self._owed = 0.0

    def wait(self, seconds: float) -> None:
        """Sleep, now or together with the waits that follow."""
        self._owed += seconds
        if self._owed < _LEAST_S:
            return
        start = time.perf_counter()
        time.sleep(self._owed)
        self._owed = max(self._owed - (time.perf_counter() - start), -_MOST_CREDIT_S)


class EmulatedRule(LearningRule):
    """Waits, and gives tensors of the size that the rule in its place would give.

    Args:
        spec: place and shapes of the block.
        seconds: of the block.
        waiter: of the stage.
        dtype: of its output.
        at_once: a hidden block of the rule in its place learns, and sends its feedback, before any has come.
        gradient_bytes: of the gradients that replicas exchange.
        device: of the stage.
    """

    learns_from = ANY_LABELS

    def __init__(
        self, spec: BlockSpec, seconds: BlockSeconds, waiter: Waiter, dtype: torch.dtype, *, at_once: bool = False,
        gradient_bytes: int = 0, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__(Block(nn.Identity()), spec)
        self.draws = False
        self._seconds = seconds
        self._waiter = waiter
        self._at_once = at_once
        self._gradient_bytes, self._device = gradient_bytes, device
        self._exchanged: tuple[nn.Parameter, Tensor] | None = None  # a tuple: no weights of this module
        self._out = torch.zeros(0, *spec.out_shape, dtype=dtype)
        self._back = torch.zeros(0, *self._feedback_shape, dtype=dtype)

    @property
    def _feedback_shape(self) -> tuple[int, ...]:
        """Of what it sends for each sample; of a broadcasting rule that is the error of the network's output."""
        return self.spec.out_shape if self.topology is Topology.BROADCAST else self.spec.in_shape

    @property
    def _sends_feedback(self) -> bool:
        """As the rule in its place does."""
        if self.topology is Topology.BROADCAST:
            return self.spec.is_last
        return self.topology is Topology.NEIGHBOUR and not self.spec.is_first

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """See :class:`LearningRule`. The context is the number of samples."""
        self._out = _with_rows(self._out, len(y), y.device)
        self._waiter.wait(self._seconds.forward * len(y))
        return self._out[: len(y)], len(y)

    def learn(self, context: int, feedback: tuple[Tensor, ...], *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. No loss: nothing is learned. All of its time is that of the first call, where
        the feedback calls a second time."""
        if self._exchanged is not None:
            parameter, gradient = self._exchanged
            parameter.grad = gradient
        if feedback and self._at_once:
            return Learned(None)
        self._waiter.wait(self._seconds.learn * context)
        if not self._sends_feedback:
            return Learned(None)
        self._back = _with_rows(self._back, context, self._out.device)
        return Learned(None, (self._back[:context],))

    def exchanged(self) -> list[nn.Parameter]:
        """A parameter in place of all, whose gradient, of zeros, replicas exchange from now on; made where it is asked
        for, since it takes as much memory as they. It is never stepped."""
        if self._exchanged is None:
            zeros = torch.zeros(-(-self._gradient_bytes // torch.float32.itemsize), device=self._device)
            self._exchanged = nn.Parameter(torch.empty_like(zeros)), zeros
        return [self._exchanged[0]]

    def decode(self, context: int) -> None:
        """No scores: nothing is learned."""


class _Local(EmulatedRule):
    topology = Topology.LOCAL


class _Broadcast(EmulatedRule):
    topology = Topology.BROADCAST


class _Neighbour(EmulatedRule):
    topology = Topology.NEIGHBOUR

    @property
    def learns_at_once(self) -> bool:
        return self._at_once or self.spec.is_last


_KINDS: dict[Topology, type[EmulatedRule]] = {
    Topology.LOCAL: _Local, Topology.BROADCAST: _Broadcast, Topology.NEIGHBOUR: _Neighbour,
}  # fmt: skip


def _with_rows(tensor: Tensor, rows: int, device: torch.device) -> Tensor:
    """``tensor`` on ``device``, or a larger one where it has fewer rows."""
    if len(tensor) >= rows and tensor.device == device:
        return tensor
    return torch.zeros(rows, *tensor.shape[1:], dtype=tensor.dtype, device=device)


def even_seconds(stage_s: float, num_blocks: int, batch_size: int) -> list[BlockSeconds]:
    """The time of a stage in one optimizer step, laid evenly on its blocks.

    Args:
        stage_s: of all blocks and a whole batch.
        num_blocks: of the stage.
        batch_size: samples of a whole batch.
    """
    each = stage_s / num_blocks / batch_size
    return [BlockSeconds(each * FORWARD_SHARE, each * (1 - FORWARD_SHARE))] * num_blocks


def emulated_rules(
    resolved: RunSpec, blocks: range, seconds: Sequence[BlockSeconds], device: torch.device
) -> list[LearningRule]:
    """Rules that wait in place of those of ``blocks``.

    Args:
        resolved: the run; :func:`pipeline.checks.check_emulation` has passed it.
        blocks: of the stage.
        seconds: of each of them.
        device: of the stage.
    """
    kind, waiter = _KINDS[resolved.topology], Waiter()
    autocast = resolved.config.run.autocast != "none"
    return [
        kind(
            resolved.specs[k], each, waiter, torch.bfloat16 if autocast else resolved.shapes[k].dtype,
            at_once=resolved.learns_at_once, gradient_bytes=resolved.exchanged[k].gradient_bytes, device=device,
        )
        for k, each in zip(blocks, seconds, strict=True)
    ]
