"""Finds the unit of a block that has a part without a derivative, whatever else the block is made of."""

from dataclasses import dataclass

from torch import nn

from pipeline.learning.affine import layers_of
from pipeline.learning.dense import Dense
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable

__all__ = ["HardUnit", "cut_at_hard_unit"]


@dataclass(frozen=True)
class HardUnit:
    """The layers of a block in order: those that make its pre-activation, its unit ``g(f(a))``, those after it."""

    before: tuple[nn.Module, ...]
    f: nn.Module
    g: NonDifferentiable | None
    """None where the block has no such part; all its layers are ``before`` then, and f is ``nn.Identity``."""
    after: tuple[nn.Module, ...]

    def affine(self, in_shape: tuple[int, ...]) -> Dense | None:
        """What is before the unit in closed form, if that is a linear map and nothing comes after the unit.

        Args:
            in_shape: of one sample.
        """
        if self.after or not self.before or not isinstance(self.before[-1], nn.Linear):
            return None
        return Dense.of(Block(nn.Sequential(*self.before)), in_shape)


def cut_at_hard_unit(block: Block, rule: str) -> HardUnit:
    """The block cut around its only hard part and the smooth part in front of that.

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
