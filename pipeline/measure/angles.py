"""How far a rule's gradients are from backpropagation's, as angles between them on one batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.measure.whole_network import WholeNetwork

__all__ = ["Angles", "angle_deg", "angles"]


@dataclass(frozen=True)
class Angles:
    """In degrees; None where one of the two gradients is zero, or not finite, and has no direction."""

    blocks: list[float | None]
    """Of each block's own parameters: the decoders and feedback matrices of a rule are not among them."""
    whole: float | None
    """Of all blocks' parameters together, those left out whose backpropagated gradient is zero."""


def angles(network: WholeNetwork, x: Tensor, y: Tensor) -> Angles:
    """Rule against backpropagation on one batch, x (batch, ...) and y (batch,), in training mode.

    Both run the same blocks with the same random numbers. Behind a unit without a derivative backpropagation's
    gradient is zero, and there is no angle.
    """
    true = network.backpropagated(x, y)
    found = network.learned(x, y)
    pairs = [_vectors(a, b) for a, b in zip(found, true, strict=True)]
    led = [pair for pair in pairs if bool(pair[1].any())]
    whole = angle_deg(torch.cat([a for a, _ in led]), torch.cat([b for _, b in led])) if led else None
    return Angles([angle_deg(*pair) for pair in pairs], whole)


def angle_deg(a: Tensor, b: Tensor) -> float | None:
    """The angle between two vectors, (n,) float64, in [0, 180]; exact for small ones, where an arc cosine is not.

    Source: Kahan, "How futile are mindless assessments of roundoff in floating-point computation?" (2006).
    """
    norms = a.norm(), b.norm()
    if any(not torch.isfinite(n) or n == 0 for n in norms):
        return None
    u, v = a / norms[0], b / norms[1]
    return float(torch.rad2deg(2.0 * torch.atan2((u - v).norm(), (u + v).norm())))


def _vectors(found: list[Tensor | None], true: list[Tensor | None]) -> tuple[Tensor, Tensor]:
    """Two blocks' gradients as vectors over the same parameters: those that either of them moves."""
    a, b = [], []
    for first, second in zip(found, true, strict=True):
        like = first if first is not None else second
        if like is not None:
            a.append(_flat(first, like))
            b.append(_flat(second, like))
    none = torch.zeros(0, dtype=torch.float64)
    return (torch.cat(a), torch.cat(b)) if a else (none, none)


def _flat(grad: Tensor | None, like: Tensor) -> Tensor:
    return (torch.zeros_like(like) if grad is None else grad).detach().double().flatten().cpu()
