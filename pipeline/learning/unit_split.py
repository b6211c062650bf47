"""Splits a plain block into affine layer, smooth part f and hard part g of its unit."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.learning.affine import cut_at_affine, run
from pipeline.learning.dense import check_plain
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable

__all__ = ["UnitSplit", "check_vectors", "parts_of_unit", "split_at_unit"]


@dataclass(frozen=True)
class UnitSplit:
    """Parts of a plain block: ``a = affine(before(x))``, ``z = f(a)``, ``z* = g(z)``, which is sent."""

    before: tuple[nn.Module, ...]
    """Layers in front of the affine one: flattening, and with ``model.boundary = "half"`` the unit of the layer
    below."""
    affine: nn.Linear
    f: nn.Module
    """``nn.Identity`` where nothing follows the affine layer."""
    g: NonDifferentiable | None

    def hard(self, z: Tensor) -> Tensor:
        """``z*``, or ``z`` where there is no g."""
        return z if self.g is None else run([self.g], z)


def split_at_unit(block: Block, rule: str) -> UnitSplit:
    """Split a block of one ``nn.Linear`` and its unit, without normalisation or dropout.

    Args:
        block: its layers stand in ``nn.Sequential``, nested or not.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: ``block`` has another form, or see :func:`pipeline.learning.dense.check_plain`.
    """
    split = cut_at_affine(block, rule)
    if isinstance(split.affine, nn.Linear):
        check_plain(split.affine, block, rule)
    if not isinstance(split.affine, nn.Linear) or split.affine.bias is None:
        given = type(split.affine).__name__ + (" without a bias" if split.affine.bias is None else "")
        raise ValueError(
            f"{rule} is a rule of fully connected layers (given: {given}, expected: nn.Linear with a bias). Choose the "
            "model mlp, or another rule."
        )
    f, g = parts_of_unit(split.after, rule)
    return UnitSplit(split.before, split.affine, f, g)


def check_vectors(spec: BlockSpec, rule: str) -> None:
    """Refuses a linear layer over the last of several dimensions. Args: spec, of a block of such a layer; rule, its
    name.

    Raises:
        ValueError: it is one.
    """
    if len(spec.out_shape) != 1:
        raise ValueError(
            f"{rule} takes vectors (given: samples of shape {spec.in_shape} at nn.Linear, expected: nn.Flatten in "
            "front of it). Add one to the block."
        )


def parts_of_unit(layers: Sequence[nn.Module], rule: str) -> tuple[nn.Module, NonDifferentiable | None]:
    """Split a unit into its smooth part and its hard part, None where it has none.

    Args:
        layers: at most one of either kind, in this order; ``nn.Identity`` is skipped.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: there are others.
    """
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    left = list(layers)
    g: NonDifferentiable | None = None
    if left and isinstance(left[-1], NonDifferentiable):
        g = left[-1]
        del left[-1]
    if len(left) > 1 or any(isinstance(m, NonDifferentiable) or any(True for _ in m.parameters()) for m in left):
        raise ValueError(
            f"{rule} cannot split the unit into f and g (given: {', '.join(type(m).__name__ for m in layers)} "
            "behind the affine layer, expected: a smooth nonlinearity, and behind it nothing or one of "
            "pipeline.network.hard_units). Set model.norm to none and model.dropout to 0."
        )
    return left[0] if left else nn.Identity(), g
