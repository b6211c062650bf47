"""Matrix products and convolutions in bfloat16, as a run may ask for; everything that is kept stays in float32.

Under ``torch.autocast`` the factors of products are rounded to bfloat16, and activations stay in it, on the wires
too: half the bytes. Weights, gradients and the optimizer's state are float32, and so are losses.
"""

import torch
from torch import Tensor

__all__ = ["at_least_float32", "autocast", "exact_product"]


def autocast(device: torch.device) -> torch.autocast:
    """A context in which rules run in bfloat16.

    Rounded weights are not kept for a second use: there is hardly one, and a copy made under ``no_grad`` would cut
    the graph of that use.
    """
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` itself, unless it has fewer bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in the dtype of ``a`` and ``b``, inside such a context too."""
    kind = a.device.type
    if not torch.is_autocast_enabled(kind):
        return a @ b
    with torch.autocast(kind, enabled=False):
        return a @ b
