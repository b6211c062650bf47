"""A linear layer behind RMSNorm, cheaper to train where nothing in front of it is trained."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["normed_linear"]


def normed_linear(norm: nn.RMSNorm, linear: nn.Linear, x: Tensor) -> Tensor:
    """``linear(norm(x))``.

    In training, where ``x`` needs no gradient, as at the input of a block with a local loss, the gradients of both
    weights come from one product in place of two, the same to rounding: one of three products of the layer is saved.
    In evaluation mode the bits are always those of torch's own layers.

    Args:
        norm: of the last dimension alone, with a weight.
        linear: without a bias.
        x: (..., features).
    """
    # Tensors without values ("meta") have no autocast, and torch raises where it is asked for one.
    is_autocast = x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)
    if x.requires_grad or not linear.training or not torch.is_grad_enabled() or is_autocast:
        out: Tensor = linear(norm(x))
        return out
    eps = torch.finfo(x.dtype).eps if norm.eps is None else norm.eps
    found: Tensor = _OfConstant.apply(x, norm.weight, linear.weight, eps)  # type: ignore[no-untyped-call]
    return found


class _OfConstant(torch.autograd.Function):
    """With n the input over its root mean square, s the norm's weight and W the layer's: ``(W s) n``.

    By the chain rule, M being the gradient of the loss by the product ``W s``: W has ``M s``, and s the sum of
    ``W M`` over outputs. By way of the norm's output, s would need that output's gradient, a product of its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Args: x (..., in), scale (in,), weight (out, in). Returns: (..., out)."""
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(normed, scale, weight)
        return F.linear(normed, weight * scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor, None]:
        """Args: the gradient of the output, (..., out)."""
        normed, scale, weight = ctx.saved_tensors
        product = grads[0].flatten(0, -2).t() @ normed.flatten(0, -2)
        return None, (weight * product).sum(0), product * scale, None
