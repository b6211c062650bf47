"""Splits a block between its pre-activation and its nonlinearity, which may then be non-differentiable."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.learning.affine import cut_at_affine, run
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block

__all__ = ["PreActivation", "cut_at_pre_activation"]

_NORMALISATIONS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class PreActivation:
    """Layers of a block in order: up to its pre-activation, and behind it."""

    before: tuple[nn.Module, ...]
    after: tuple[nn.Module, ...]
    shape: tuple[int, ...]
    """Shape of the pre-activation, without the batch dimension."""


def cut_at_pre_activation(block: Block, spec: BlockSpec, rule: str) -> PreActivation:
    """Split the block behind its affine layer, or behind the normalisation that follows that at once.

    Args:
        block: has exactly one ``nn.Linear`` or ``nn.Conv2d``, directly in ``nn.Sequential``.
        rule: name of the rule, for error messages.

    Raises:
        ValueError: ``block`` is not of that form, or a layer behind the cut has parameters: no error would reach them.
    """
    split = cut_at_affine(block, rule)
    before, after = [*split.before, split.affine], list(split.after)
    while after and isinstance(after[0], _NORMALISATIONS):
        before.append(after.pop(0))
    trained = [type(layer).__name__ for layer in after if any(True for _ in layer.parameters())]
    if trained:
        raise ValueError(
            f"{rule} does not train layers behind the pre-activation (given: {', '.join(trained)} with parameters, "
            "expected: parameters in the affine layer, in front of it and in the normalisation right behind it). "
            "Move or remove the layer, or let the error enter at the block's output."
        )
    return PreActivation(tuple(before), tuple(after), _shape(before, split.affine.weight, spec.in_shape))


def _shape(layers: list[nn.Module], weight: Tensor, in_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one sample behind ``layers``, found in evaluation mode, in which normalisation keeps its statistics."""
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.eval()
    with torch.no_grad():
        a = run(layers, weight.new_zeros(1, *in_shape))
    for layer, mode in zip(layers, modes, strict=True):
        layer.train(mode)
    return tuple(a.shape[1:])
