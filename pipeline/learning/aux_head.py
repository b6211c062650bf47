"""Auxiliary nets between a block's output and its read-out: none, an MLP, or layers of the next block's kind."""

from dataclasses import dataclass
from math import ceil, prod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.learning.heads import PooledHead
from pipeline.learning.positions import features_of
from pipeline.learning.rule import BlockSpec
from pipeline.network.from_modules import cut_into_blocks
from pipeline.numerics.autocast import at_least_float32
from pipeline.ranges import MOST_COUNTED, Range

__all__ = ["AuxHead", "FullNorm", "ReadOut", "read_out_of"]

_MLP_LAYERS = 3
_MLP_MAP = 2
_REDUCED_BY = 4


@dataclass(frozen=True)
class ReadOut:
    """Options of a block's own read-out."""

    head: Literal["linear", "mlp", "mlp_sr"] = "linear"
    """``mlp``: three hidden layers with normalisation and ReLU in front of it; ``mlp_sr``, of maps: the map is reduced
    to a quarter of its side and goes through three 1 x 1 convolutions before."""
    depth: Annotated[int, Range(0, 1000)] = 0
    """Layers of the next block's kind in front of all that, of the block's own and trained with it."""
    norm: bool = False
    """RMSNorm of the features that the read-out itself takes."""


class FullNorm(nn.RMSNorm):
    """RMSNorm in float32 at least, also of what comes in bfloat16 under autocast, of which torch would warn."""

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, (..., features)."""
        return super().forward(at_least_float32(x))


class AuxHead(nn.Module):
    """Layers, an MLP, a norm, and a linear read-out whose weight starts at 0; each but the last may be missing.

    Source: Belilovsky, Eickenberg and Oyallon, "Decoupled Greedy Learning of CNNs" (2019), the auxiliary nets MLP-aux
    and MLP-SR-aux. Deviations: an MLP of vectors has their width; at positions, where it is the same for each, RMSNorm
    stands in for batch norm, which would let a position depend on later ones.

    Args:
        layers: the first of them, on the block's output.
        shape: of a sample behind them.
        spec: of the block.
        options: see :class:`ReadOut`.

    Raises:
        ValueError: the block's output is not of a shape that the head reads.
    """

    def __init__(self, layers: nn.Sequential, shape: tuple[int, ...], spec: BlockSpec, options: ReadOut) -> None:
        super().__init__()
        self.layers = layers
        self.num_leading = len(spec.task.positions)
        shape = features_of(spec.task, shape, "an auxiliary head")
        self.reduced = _reduced(shape) if options.head == "mlp_sr" else None
        self.reduce, self.mlp = nn.Sequential(), nn.Sequential()
        if self.reduced is not None:
            self.reduce = nn.Sequential(*(m for _ in range(_MLP_LAYERS) for m in _mixed(shape[0])))
        self.pooled = options.head != "linear" and len(shape) == 3
        size = shape[0] * _MLP_MAP**2 if self.pooled else prod(shape)
        if options.head != "linear":
            at_positions = self.num_leading > 0
            self.mlp = nn.Sequential(*(m for _ in range(_MLP_LAYERS) for m in _hidden(size, at_positions)))
        self.norm = FullNorm(size) if options.norm else nn.Identity()
        self.linear = nn.Linear(size, spec.task.num_outputs)
        nn.init.zeros_(self.linear.weight)

    def forward(self, h: Tensor) -> Tensor:
        """Args: h, (batch, *out_shape). Returns: scores, (batch, *task.out_shape)."""
        h = self.layers(h)
        if self.reduced is not None:
            h = self.reduce(F.adaptive_avg_pool2d(h, self.reduced))
        if self.pooled:
            h = F.adaptive_avg_pool2d(h, (_MLP_MAP, _MLP_MAP))
        scores: Tensor = self.linear(self.norm(self.mlp(h.flatten(1 + self.num_leading))))
        return scores


def read_out_of(spec: BlockSpec, options: ReadOut) -> PooledHead | AuxHead:
    """The read-out of a hidden block: a :class:`PooledHead` that pools nothing where it is linear and no more.

    A PooledHead reads the body's output, an AuxHead that of the whole block.

    Raises:
        ValueError: see :class:`AuxHead`; or layers of the next block's kind cannot be built, or cannot follow each
            other.
    """
    if options == ReadOut():
        shape = features_of(spec.task, spec.body_shape, "a read-out")
        return PooledHead(shape, spec.task.num_outputs, MOST_COUNTED, len(spec.task.positions))
    layers = nn.Sequential(*_layers_above(spec, options.depth))
    try:
        with torch.no_grad():
            shape = tuple(layers.eval()(torch.zeros(2, *spec.out_shape)).shape[1:])
    except Exception as error:
        raise ValueError(
            f"layers of block {spec.index + 1} cannot follow each other so often (given: rule.depth = {options.depth}; "
            f"{type(error).__name__}: {error}). Lower rule.depth."
        ) from None
    return AuxHead(layers.train(), shape, spec, options)


def _layers_above(spec: BlockSpec, depth: int) -> list[nn.Module]:
    """``depth`` layers of the next block's kind, with weights of their own: its first ones, and from the first again
    where it has fewer. The network's read-out is none of them: below a block that is nothing else there are none."""
    found: list[nn.Module] = []
    while len(found) < depth:
        if spec.above is None:
            raise ValueError(
                f"layers of the next block's kind are built from its recipe (given: rule.depth = {depth} with a "
                "network that was handed over as an object, expected: a named model). Name a function that builds it "
                "as model.name, or set rule.depth to 0."
            )
        body = spec.above.make().body
        parts = cut_into_blocks(body) if isinstance(body, nn.Sequential) else []
        layers: list[nn.Module] = [nn.Sequential(*part.layers) for part in parts] or [body]
        if spec.index + 2 == spec.num_blocks:
            top = layers.pop()
            if not layers:
                _check_read_out(top, depth)
                return []
        found += layers[: depth - len(found)]
    return found


def _check_read_out(top: nn.Module, depth: int) -> None:
    """Refuses a last block in one part that is more than the network's read-out: its layers cannot be told from that.

    Raises:
        ValueError: it is.
    """
    if sum(p.dim() > 1 for p in top.parameters()) > 1:
        modules = [m for m in top.modules() if not isinstance(m, nn.Sequential) and any(True for _ in m.parameters())]
        raise ValueError(
            f"the layers in front of the network's read-out cannot be told from it (given: rule.depth = {depth} with a "
            f"last block of one module, {type(modules[0]).__name__}, expected: an nn.Sequential that ends with the "
            "read-out). Make it one, or set rule.depth to 0."
        )


def _reduced(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the map that 1 x 1 convolutions see."""
    if len(shape) != 3:
        raise ValueError(
            f"a reduced map needs a map (given: rule.head = \"mlp_sr\" with features of shape {shape}, expected: "
            "(channels, height, width)). Choose rule.head = \"mlp\"."
        )
    return ceil(shape[1] / _REDUCED_BY), ceil(shape[2] / _REDUCED_BY)


def _mixed(channels: int) -> list[nn.Module]:
    """A 1 x 1 convolution with normalisation and unit."""
    return [nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]


def _hidden(size: int, at_positions: bool) -> list[nn.Module]:
    """A hidden layer of the MLP."""
    return [nn.Linear(size, size), FullNorm(size) if at_positions else nn.BatchNorm1d(size), nn.ReLU()]
