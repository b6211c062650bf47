"""Running statistics of batch normalisation where a stage's micro-batches are dealt to replicas.

Training does not read them: each micro-batch is normalised by its own statistics. So replicas run forward as they
like, and at the end of a step the running values are made again from those at its begin: each replica in its turn
shows its layers once more the inputs that it had, and hands the values on. They are then updated by the same calls, on
the same inputs, in the same order as in one process, whatever kernel does it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.exchanged import keeps_statistics

__all__ = ["RunningStats"]


class RunningStats:
    """The layers of a stage that keep running statistics, and what they were shown in a step.

    Args:
        rules: of the hosted blocks, by block; their layers get a hook.
    """

    def __init__(self, rules: Mapping[int, nn.Module]) -> None:
        self._layers = {k: [m for m in rule.modules() if keeps_statistics(m)] for k, rule in rules.items()}
        self._shown: dict[tuple[int, int], list[tuple[nn.Module, Tensor]]] = {}
        self._before: dict[int, list[Tensor]] = {}
        self._event: int | None = None
        for k, layers in self._layers.items():
            for layer in layers:
                layer.register_forward_pre_hook(self._hook(k))

    def _hook(self, block: int) -> Any:
        """Remembers an input of a layer of ``block``."""

        def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if layer.training and self._event is not None:
                self._shown.setdefault((block, self._event), []).append((layer, inputs[0].detach()))

        return note

    def begin(self) -> None:
        """A step begins: remembers the running values."""
        self._before = {k: [value.clone() for value in self.values([k])] for k in self._layers}
        self._shown.clear()

    def watch(self, event: int | None) -> None:
        """What layers are shown from now on belongs to an event of the step; None: to none."""
        self._event = event

    def has(self, blocks: Sequence[int]) -> bool:
        """Some of ``blocks`` keep running statistics."""
        return any(self._layers[k] for k in blocks)

    def values(self, blocks: Sequence[int]) -> list[Tensor]:
        """The running values themselves, of all layers of ``blocks`` in order."""
        return [buffer for k in blocks for layer in self._layers[k] for buffer in layer.buffers()]

    def restore(self, blocks: Sequence[int]) -> None:
        """Puts the values back to where they were at the begin of the step."""
        self.load(blocks, [value for k in blocks for value in self._before[k]])

    def load(self, blocks: Sequence[int], values: Sequence[Tensor]) -> None:
        """Takes over the values of another replica."""
        for value, found in zip(self.values(blocks), values, strict=True):
            value.copy_(found)

    @torch.no_grad()
    def show_again(self, blocks: Sequence[int], event: int) -> None:
        """Shows the layers of ``blocks`` the inputs that they had in an event."""
        self.watch(None)
        for k in blocks:
            for layer, x in self._shown.pop((k, event), []):
                layer(x)
