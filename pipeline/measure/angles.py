"""Angles between a rule's gradients and backpropagation's on one batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.measure.whole_network import WholeNetwork

__all__ = ["Angles", "angle_deg", "angles"]


@dataclass(frozen=True)
class Angles:
    """Angles in degrees; None where one of the two gradients is zero or not finite."""

    blocks: list[float | None]
    """Angle of each block's own parameters, without the decoders and feedback matrices of its rule."""
    whole: float | None
    """Angle of the parameters of all blocks together, except blocks whose backpropagated gradient is zero."""


def angles(network: WholeNetwork, x: Tensor, y: Tensor) -> Angles:
    """Compare the rule's gradients with backpropagation's on one batch, in training mode.

    Both run the same blocks with the same random numbers. Below a non-differentiable unit backpropagation's gradient is
    zero, and there is no angle.

    Args:
        network: the network in one state.
        x: inputs, (batch, ...).
        y: labels, (batch,), int64.
    """
    true = network.backpropagated(x, y)
    learned = network.learned(x, y)
    pairs = [_vectors(a, b) for a, b in zip(learned, true, strict=True)]
    led = [pair for pair in pairs if bool(pair[1].any())]
    whole = angle_deg(torch.cat([a for a, _ in led]), torch.cat([b for _, b in led])) if led else None
    return Angles([angle_deg(*pair) for pair in pairs], whole)


def angle_deg(a: Tensor, b: Tensor) -> float | None:
    """Angle between two vectors, (n,) float64, in [0, 180] degrees; accurate for small ones, unlike an arc cosine.

    Source: Kahan, "How futile are mindless assessments of roundoff in floating-point computation?" (2006).
    """
    norms = a.norm(), b.norm()
    if any(not torch.isfinite(n) or n == 0 for n in norms):
        return None
    u, v = a / norms[0], b / norms[1]
    return float(torch.rad2deg(2.0 * torch.atan2((u - v).norm(), (u + v).norm())))


def _vectors(learned: list[Tensor | None], true: list[Tensor | None]) -> tuple[Tensor, Tensor]:
    """Two gradients of a block as vectors over the same parameters: those for which either is given."""
    a, b = [], []
    for first, second in zip(learned, true, strict=True):
        like = first if first is not None else second
        if like is not None:
            a.append(_flat(first, like))
            b.append(_flat(second, like))
    none = torch.zeros(0, dtype=torch.float64)
    return (torch.cat(a), torch.cat(b)) if a else (none, none)


def _flat(grad: Tensor | None, like: Tensor) -> Tensor:
    return (torch.zeros_like(like) if grad is None else grad).detach().double().flatten().cpu()
