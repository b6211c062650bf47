"""A share of a local loss that needs no labels: similarities of the block's input, or the input itself.

Source: the published code of Nøkland and Eidnes, "Training Neural Networks with Local Error Signals" (2019), option
``loss_unsup``; the share is 0 in all their published runs.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.task import Labels
from pipeline.learning.activation import is_smooth_unit
from pipeline.learning.dense import Dense
from pipeline.learning.local_rule import LocalRule
from pipeline.learning.positions import check_maps
from pipeline.learning.rule import BlockSpec
from pipeline.learning.similarity import SimilarityHead, match_similarity, similarity
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable
from pipeline.ranges import Share

__all__ = ["PartlyUnsupervised", "Unsupervised"]


@dataclass(frozen=True)
class Unsupervised:
    """Options of a loss ``alpha unsupervised + (1 - alpha) supervised``.

    Raises:
        ValueError: a share of no loss, or no share of a loss.
    """

    unsupervised: Literal["none", "sim", "recon"] = "none"
    """``sim``: ``mean((S(R(h)) - S(x))^2)`` over the batch x batch pairs; ``recon``: ``mean((phi(Dec(h)) - x)^2)``, in
    every block but the first; phi is the unit that the block ends with, or the identity."""
    alpha: Share = 0.0
    """Its share."""

    def __post_init__(self) -> None:
        if (self.unsupervised == "none") != (self.alpha == 0.0):
            raise ValueError(
                f"an unsupervised loss needs a share, and a share a loss (given: rule.unsupervised = "
                f"{self.unsupervised!r} with rule.alpha = {self.alpha}, expected: 'none' with 0, or another with "
                "more). Change one of them."
            )


class PartlyUnsupervised(LocalRule):
    """Base of local rules with that option. Without it nothing differs from :class:`LocalRule`.

    Subclasses add their own heads, then call :meth:`add_unsupervised`, and mix in :meth:`loss` by :meth:`mixed`.

    Args:
        options: see :class:`Unsupervised`.
        dense: see :class:`LocalRule`; left to autograd where there is an unsupervised loss.
    """

    def __init__(self, block: Block, spec: BlockSpec, options: Unsupervised, *, dense: Dense | None = None) -> None:
        super().__init__(block, spec, dense=dense if options.unsupervised == "none" else None)
        if options.unsupervised != "none" and spec.task.labels is not Labels.CLASS:
            raise ValueError(
                f"unsupervised losses are of whole samples (given: rule.unsupervised = {options.unsupervised!r} with "
                f"labels that are {spec.task.labels.value}, expected: 'none'). Leave rule.unsupervised and rule.alpha "
                "out."
            )
        self.options = options
        self._reconstructs = options.unsupervised == "recon" and not spec.is_first

    def add_unsupervised(self, project: SimilarityHead | None) -> None:
        """Adds what the unsupervised loss trains. Args: project, the R that sim's own loss learns; None for none."""
        if self.options.unsupervised == "sim":
            self.splits_batches = False  # its loss compares samples
            if project is None:
                check_maps(self.block, self.spec.body_shape, "rule.unsupervised = 'sim'")
                self.project = SimilarityHead(self.spec.body_shape)
        if self._reconstructs:
            self.reconstruct = _decoder(self.spec)
            self._unit = _unit_of(self.block)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LocalRule`; with an unsupervised loss the context is ``(h, y, x)``."""
        out, context = super().forward(x, y)
        return out, context if self.options.unsupervised == "none" else (*context, x)

    def mixed(self, supervised: Tensor, context: Any) -> Tensor:
        """Mixes the unsupervised loss in; both scalars with a graph. Args: context, from :meth:`forward`."""
        if self.options.unsupervised == "none":
            return supervised
        alpha = self.options.alpha
        if self.options.unsupervised == "sim":
            h, _, x = context
            return torch.lerp(supervised, match_similarity(self.project(h), similarity(x)), alpha)
        if not self._reconstructs:
            return supervised * (1.0 - alpha)
        return torch.lerp(supervised, self._reconstruction(context), alpha)

    def _reconstruction(self, context: Any) -> Tensor:
        h, _, x = context
        if isinstance(self.reconstruct, nn.Linear):
            h, x = h.flatten(1), x.flatten(1)
        guess = self.reconstruct(h)
        for layer in self._unit:
            guess = layer(guess)
        return F.mse_loss(guess, x.to(guess.dtype))


def _decoder(spec: BlockSpec) -> nn.Module:
    """From the body's output to the block's input: a transposed 3 x 3 convolution between maps, else a linear map.

    Raises:
        ValueError: the maps' sizes are no multiples of each other.
    """
    if len(spec.body_shape) != 3 or len(spec.in_shape) != 3:
        return nn.Linear(prod(spec.body_shape), prod(spec.in_shape))
    sizes = list(zip(spec.in_shape[1:], spec.body_shape[1:], strict=True))
    down, across = (-(-a // b) for a, b in sizes)
    # Without it a map of b grows to (b - 1) stride + 1.
    rest = sizes[0][0] - (sizes[0][1] - 1) * down - 1, sizes[1][0] - (sizes[1][1] - 1) * across - 1
    if not (0 <= rest[0] < down and 0 <= rest[1] < across):
        raise ValueError(
            f"a map cannot be reconstructed from one of that size (given: block {spec.index} from {spec.in_shape} to "
            f"{spec.body_shape}, expected: a convolution of one stride). Set rule.unsupervised to 'none' or 'sim'."
        )
    return nn.ConvTranspose2d(spec.body_shape[0], spec.in_shape[0], 3, (down, across), 1, output_padding=rest)


def _unit_of(block: Block) -> list[nn.Module]:
    """The unit at the end of the body, its smooth and its hard part, not registered anew; none of a module of its own,
    such as a residual pair, and none where anything but a unit stands at the end."""
    layers = list(block.body) if isinstance(block.body, nn.Sequential) else [block.body]
    first = len(layers)
    if first and isinstance(layers[first - 1], NonDifferentiable):
        first -= 1
    if first and is_smooth_unit(layers[first - 1]):
        first -= 1
    return layers[first:]
