"""Similarity matching loss of Nøkland and Eidnes: samples should resemble each other as their labels do.

The loss is a mean over pairs of samples, so the micro-batch *is* the mini-batch: splitting it changes the loss itself.
It is computed in float32 under autocast too, from the means on: cosines near 1 differ in bits that bfloat16 lacks.

Written plainly it takes some thirty small operations and several copies of the features. Two closed-form derivatives
take their place; ``similarity`` and autograd are their oracle in the tests.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from pipeline.numerics.autocast import exact_product

__all__ = ["SimilarityHead", "match_similarity", "similarity", "similarity_loss"]

_EPS = 1e-16  # under the root: a guard of 1e-8 on the norm


class SimilarityHead(nn.Module):
    """Learned projection in front of the similarity: no bias, a 3 x 3 convolution for maps, else a linear layer.

    Args:
        shape: shape of the input, without the batch: (channels, height, width) is convolved, others are flattened.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.is_map = len(shape) == 3
        self.project: nn.Module
        if self.is_map:
            self.project = nn.Conv2d(shape[0], shape[0], 3, padding=1, bias=False)
        else:
            self.project = nn.Linear(prod(shape), prod(shape), bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """Args: h (batch, *shape). Returns: the same shape, or (batch, features) where it was flattened."""
        projected: Tensor = self.project(h if self.is_map else h.flatten(1))
        return projected


class _Spread(Function):
    """Standard deviation of every feature map over its positions, unbiased: (batch, channels, positions) to 2-D.

    torch.std on the CPU takes 25 times as long: it is Welford's algorithm, one value at a time.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        centred = maps - maps.mean(2, keepdim=True, dtype=_dtype(maps))
        spread: Tensor = torch.linalg.vector_norm(centred, dim=2).div_((maps.shape[2] - 1) ** 0.5)
        ctx.save_for_backward(centred, spread)
        return spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        centred, spread = ctx.saved_tensors
        # A constant map has no direction to spread in: no gradient, and no 0/0.
        scale = (grad / (spread * (centred.shape[2] - 1))).masked_fill_(spread == 0, 0.0)
        result: Tensor = centred * scale.unsqueeze(2)
        return result


class _SimilarityLoss(Function):
    """Mean over B x B of (S(x) - target)^2, with S the cosine of mean-centred rows.

    With D = S - target, r = rowsum(D * S) and n_i the norm of centred row c_i, the derivative by row i is
    (4/B^2) sum_j (D_ij - r_i [i = j]) c_j / (n_i n_j): one B x B by B x d product. Centring adds nothing to it, for
    the rows c_j have mean 0 already.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, less_target: Callable[[Tensor], Tensor]) -> Tensor:
        batch = len(features)
        centred, scale, similar = _cosines(features)
        difference = less_target(similar)
        flat = difference.view(-1)
        loss = flat.dot(flat).div_(batch * batch)
        difference.diagonal().sub_((difference * similar).sum(1))
        ctx.save_for_backward(centred, difference.mul_(scale).mul_(4.0 / (batch * batch)))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        centred, mixing = ctx.saved_tensors
        return exact_product(mixing * grad, centred), None


def _dtype(x: Tensor) -> torch.dtype:
    """Dtype of the arithmetic: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def _cosines(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centred rows (B, d), the products of their inverse norms (B, B), and their cosines (B, B)."""
    centred = features - features.mean(1, keepdim=True, dtype=_dtype(features))
    products = exact_product(centred, centred.t())
    squares = products.diagonal()
    # A row without length is like no other row, and is left alone: 1/1e-8 would be its gradient's scale.
    inverse = squares.add(_EPS).rsqrt() * (squares > _EPS)
    scale = inverse.unsqueeze(1) * inverse
    return centred, scale, (products * scale).clamp(-1.0, 1.0)


def _features(x: Tensor) -> Tensor:
    """(B, d): the spread of every map where there are more than 3 maps higher than 1, else all values."""
    if x.dim() == 4 and x.shape[1] > 3 and x.shape[2] > 1:
        spread: Tensor = _Spread.apply(x.flatten(2))  # type: ignore[no-untyped-call]
        return spread
    return x.flatten(1)


def similarity(x: Tensor) -> Tensor:
    """Similarity matrix S(x) of the samples of a batch.

    Args:
        x: (batch, ...).

    Returns:
        (batch, batch), symmetric, in [-1, 1]: the cosine between rows that were centred by their own mean. A row
        without spread has similarity 0 to all rows, itself among them.
    """
    return _cosines(_features(x))[2]


def similarity_loss(x: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Mean squared error between S(x) and S(one-hot labels), over the batch x batch entries.

    The target needs no product: 1 for a pair of equal labels, -1/(num_classes - 1) for any other.

    Args:
        x: (batch, ...), with a graph.
        y: labels, (batch,), int64.
        num_classes: at least 2.

    Returns:
        A scalar with a graph.
    """
    apart = 1.0 / (num_classes - 1)

    def less_target(similar: Tensor) -> Tensor:
        same = y.unsqueeze(1) == y
        return similar.add(apart).add_(same, alpha=-1.0 - apart)

    return _loss(x, less_target)


def match_similarity(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between S(x) and ``target``, over the batch x batch entries.

    Args:
        x: (batch, ...), with a graph.
        target: (batch, batch), symmetric, contiguous, without a graph.

    Returns:
        A scalar with a graph.
    """
    return _loss(x, lambda similar: similar - target)


def _loss(x: Tensor, less_target: Callable[[Tensor], Tensor]) -> Tensor:
    """See :class:`_SimilarityLoss`; ``less_target`` returns S(x) minus the target, as a new tensor."""
    loss: Tensor = _SimilarityLoss.apply(_features(x), less_target)  # type: ignore[no-untyped-call]
    return loss
