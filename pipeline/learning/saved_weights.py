"""Keeps the forward pass's version of weights, for rules that use them again without autograd's graph.

Whether they will have been stepped by then is the runtime's business: it copies what autograd saves, if need be
(``pipeline/engine/in_flight.py``), and these weights are saved by autograd for no other purpose.
"""

from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["Kept"]


class Kept:
    """Tensors as they were when this was made, whatever later optimizer steps do.

    Args:
        tensors: parameters. Make it with gradients enabled: under ``no_grad`` trained ones are not kept.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._constant = () if any(tensor.requires_grad for tensor in tensors) else tensors
        self._token: Tensor = _Save.apply(*tensors)  # type: ignore[no-untyped-call]

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in that version, without a graph."""
        saved = self._constant or cast(Any, self._token.grad_fn).saved_tensors
        return tuple(tensor.detach() for tensor in saved)


class _Save(torch.autograd.Function):
    """A graph whose only node holds the tensors; it has no backward pass."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return tensors[0].new_empty(0)
