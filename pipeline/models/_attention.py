"""Layers of a pre-norm transformer decoder: causal self-attention and a position-wise net, no biases."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models._normed_linear import normed_linear

__all__ = ["DecoderLayer", "LayerSizes", "PositionalEmbedding"]


@dataclass(frozen=True)
class LayerSizes:
    """Sizes and kinds that all layers of a transformer share."""

    length: int
    """Most positions of a sample."""
    width: int
    """Features at a position."""
    heads: int
    feedforward: Literal["gelu", "swiglu"] = "gelu"
    positions: Literal["learned", "rotary"] = "learned"
    num_layers: int = 1
    """Of the whole network: what a layer adds starts the smaller, the more there are."""
    std: float = 0.02
    """Standard deviation of the initial weights."""


class PositionalEmbedding(nn.Module):
    """A vector for each token, and with learned positions one for its place.

    Args:
        num_tokens: different tokens.
        sizes: see :class:`LayerSizes`.
    """

    def __init__(self, num_tokens: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.token = nn.Embedding(num_tokens, sizes.width)
        nn.init.normal_(self.token.weight, std=sizes.std)
        self.place = nn.Embedding(sizes.length, sizes.width) if sizes.positions == "learned" else None
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=sizes.std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Args: tokens, (batch, length), integers. Returns: (batch, length, width)."""
        found: Tensor = self.token(tokens)
        return found if self.place is None else found + self.place.weight[: tokens.shape[1]]


class DecoderLayer(nn.Module):
    """``h = x + attention(norm(x))``, then ``h + net(norm(h))``; what position t gets depends on none behind it.

    Args:
        sizes: see :class:`LayerSizes`; ``heads`` divides ``width``.
    """

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        width = sizes.width
        self.attention_norm = nn.RMSNorm(width)
        self.attention = _Attention(sizes)
        self.net_norm = nn.RMSNorm(width)
        gated = sizes.feedforward == "swiglu"
        # Two thirds of four times the width: as many weights with the gate as without.
        inner = 8 * width // 3 if gated else 4 * width
        self.gated = gated
        self.widen = _linear(width, 2 * inner if gated else inner, sizes.std)
        self.narrow = _linear(inner, width, sizes.std / (2 * sizes.num_layers) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) to the same shape."""
        h = x + self.attention.attend(normed_linear(self.attention_norm, self.attention.project, x))
        inner = self.widen(self.net_norm(h))
        if self.gated:
            value, gate = inner.chunk(2, -1)
            inner = F.silu(gate) * value
        else:
            inner = F.gelu(inner)
        out: Tensor = h + self.narrow(inner)
        return out


class _Attention(nn.Module):
    """Causal self-attention of several heads."""

    turns: Tensor

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.rotary = sizes.positions == "rotary"
        self.project = _linear(sizes.width, 3 * sizes.width, sizes.std)
        self.join = _linear(sizes.width, sizes.width, sizes.std / (2 * sizes.num_layers) ** 0.5)
        if self.rotary:
            self.register_buffer("turns", _turns(sizes.length, sizes.width // sizes.heads), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.project(x))

    def attend(self, projected: Tensor) -> Tensor:
        """Args: queries, keys and values side by side, (batch, length, 3 * width). Returns: (batch, length, width)."""
        batch, length, width = projected.shape[0], projected.shape[1], projected.shape[2] // 3
        parts = projected.view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, features of a head)
        if self.rotary:
            query, key = self._turned(query), self._turned(key)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.join(seen.transpose(1, 2).reshape(batch, length, width))
        return out

    def _turned(self, x: Tensor) -> Tensor:
        """Rotary positions: pairs of features turned by an angle that grows with the position (Su et al. 2021)."""
        cosine, sine = self.turns[:, : x.shape[2]].to(x.dtype)
        first, second = x.chunk(2, -1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


def _turns(length: int, width: int) -> Tensor:
    """Cosine and sine of the angle of each pair at each position, (2, length, width / 2)."""
    speeds = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64).unsqueeze(1) * speeds
    return torch.stack([angles.cos(), angles.sin()]).float()


def _linear(num_in: int, num_out: int, std: float) -> nn.Linear:
    """A linear layer without bias, its weight from N(0, std^2)."""
    linear = nn.Linear(num_in, num_out, bias=False)
    nn.init.normal_(linear.weight, std=std)
    return linear
