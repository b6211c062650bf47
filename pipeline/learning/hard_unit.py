"""Splits a block around its non-differentiable unit."""

from dataclasses import dataclass

from torch import nn

from pipeline.learning.affine import layers_of
from pipeline.learning.dense import Dense
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable

__all__ = ["HardUnit", "cut_at_hard_unit"]


@dataclass(frozen=True)
class HardUnit:
    """Layers of a block in order: up to its pre-activation, its unit ``g(f(a))``, and behind it."""

    before: tuple[nn.Module, ...]
    f: nn.Module
    g: NonDifferentiable | None
    """Hard part of the unit. None where the block has none; then all its layers are in ``before`` and f is
    ``nn.Identity``."""
    after: tuple[nn.Module, ...]

    def affine(self, in_shape: tuple[int, ...]) -> Dense | None:
        """Closed form of the layers before the unit; None unless they are a linear map and no layer follows the unit.

        Args:
            in_shape: shape of one sample.
        """
        if self.after or not self.before or not isinstance(self.before[-1], nn.Linear):
            return None
        return Dense.of(Block(nn.Sequential(*self.before)), in_shape)


def cut_at_hard_unit(block: Block, rule: str) -> HardUnit:
    """Split the block around its only hard part and the smooth part in front of that.

    Args:
        block: its layers stand in ``nn.Sequential``, nested or not.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: there is more than one hard part, or it is not reached through ``nn.Sequential`` alone.
    """
    layers = tuple(m for m in layers_of(block) if not isinstance(m, nn.Identity))
    at = [k for k, layer in enumerate(layers) if isinstance(layer, NonDifferentiable)]
    num_inside = sum(isinstance(m, NonDifferentiable) for m in (*block.body.modules(), *block.outlet.modules()))
    if num_inside != len(at) or num_inside > 1:
        raise ValueError(
            f"{rule} cannot find the unit to estimate the derivative of (given: a block with {num_inside} parts "
            f"without a derivative, {len(at)} of them directly in nn.Sequential, expected: at most one, and directly "
            "there). Make each a block of its own."
        )
    if not at:
        return HardUnit(layers, nn.Identity(), None, ())
    g = layers[at[0]]
    assert isinstance(g, NonDifferentiable)
    before, after = layers[: at[0]], layers[at[0] + 1 :]
    if not before or any(True for _ in before[-1].parameters()):
        return HardUnit(before, nn.Identity(), g, after)
    return HardUnit(before[:-1], before[-1], g, after)
