"""Autocast: matrix products and convolutions in bfloat16, weights and gradients in float32.

Under ``torch.autocast`` the factors of products are rounded to bfloat16, and what they give stays in it, on the edges
between stages too: half the bytes. Sums with float32 are float32, as a transformer's residual stream is. Weights,
gradients and the optimizer's state are float32, and so are losses.
"""

import torch
from torch import Tensor

__all__ = ["at_least_float32", "autocast", "exact_product"]


def autocast(device: torch.device) -> torch.autocast:
    """Context in which rules run in bfloat16.

    Rounded weights are not cached: few are used twice, and a copy made under ``no_grad`` would cut the graph of the
    second use.
    """
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is where its dtype has more bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in the dtype of ``a`` and ``b``, under autocast too."""
    kind = a.device.type
    if not torch.is_autocast_enabled(kind):
        return a @ b
    with torch.autocast(kind, enabled=False):
        return a @ b
