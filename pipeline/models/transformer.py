"""Transformer decoder over tokens: pre-norm layers in blocks of a few, each block trained by its rule."""

from functools import partial
from typing import Annotated, Literal

from torch import nn

from pipeline.errors import ConfigError
from pipeline.models._attention import DecoderLayer, LayerSizes, PositionalEmbedding
from pipeline.network.block import Block, Blueprint
from pipeline.ranges import Count, Natural, Positive, Range

__all__ = ["build"]


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    depth: Annotated[int, Range(1, 1000)] = 4,
    layers_per_block: Count = 2,
    width: Count = 128,
    heads: Count = 4,
    feedforward: Literal["gelu", "swiglu"] = "gelu",
    positions: Literal["learned", "rotary"] = "learned",
    vocabulary: Natural = 0,
    init_std: Positive = 0.02,
) -> list[Blueprint]:
    """Blueprints of ``depth`` layers in blocks: the embedding in the first, the final norm and read-out in the last.

    Pre-norm with RMSNorm, causal attention, no biases, the read-out not tied to the embedding.

    Args:
        input_shape: ``(length,)`` of tokens.
        num_outputs: classes at each position.
        depth: layers in all.
        layers_per_block: of them in each block; the last one may have fewer.
        width: features at each position.
        heads: of attention; a divisor of ``width``, with an even number of features each under rotary positions.
        feedforward: the position-wise net: ``gelu`` four times as wide, or ``swiglu``, gated and as large.
        positions: ``learned``, a vector for each place, or ``rotary``, an angle between query and key.
        vocabulary: different tokens; 0: as many as outputs.
        init_std: standard deviation of initial weights; of those that lead back to the residual stream, divided by
            the square root of twice the depth.

    Raises:
        ConfigError: samples are no sequences of tokens, or the sizes do not fit together.
    """
    _check(input_shape, width, heads, positions)
    sizes = LayerSizes(input_shape[0], width, heads, feedforward, positions, depth, init_std)
    firsts = range(0, depth, layers_per_block)
    return [
        _blueprint(sizes, min(layers_per_block, depth - k), vocabulary or num_outputs if k == 0 else 0,
                   num_outputs if k == firsts[-1] else 0)
        for k in firsts
    ]  # fmt: skip


def _check(input_shape: tuple[int, ...], width: int, heads: int, positions: str) -> None:
    """Refuses samples that are no sequences of tokens, and sizes that do not fit together; see :func:`build`."""
    if len(input_shape) != 1:
        raise ConfigError(
            f"a transformer reads tokens (given: samples of shape {input_shape}, expected: (length,), as of the data "
            "set text). Choose another model or data set."
        )
    if width % heads or (positions == "rotary" and width // heads % 2):
        expected = "an even number of features for each head" if positions == "rotary" else "a divisor of the width"
        raise ConfigError(
            f"the heads do not share the width evenly (given: model.heads = {heads} with model.width = {width}, "
            f"expected: {expected}). Change one of them."
        )


def _blueprint(sizes: LayerSizes, count: int, num_tokens: int, num_outputs: int) -> Blueprint:
    """Blueprint of ``count`` layers; an embedding and a read-out are there where their sizes are not 0."""
    name = f"{count} layer{'s' if count > 1 else ''} of {sizes.width}"
    name = f"embedding, {name}" if num_tokens else name
    return Blueprint(
        partial(_make, sizes, count, num_tokens, num_outputs), f"{name}, read-out" if num_outputs else name
    )


def _make(sizes: LayerSizes, count: int, num_tokens: int, num_outputs: int) -> Block:
    layers: list[nn.Module] = [PositionalEmbedding(num_tokens, sizes)] if num_tokens else []
    layers += [DecoderLayer(sizes) for _ in range(count)]
    if num_outputs:
        read_out = nn.Linear(sizes.width, num_outputs, bias=False)
        nn.init.normal_(read_out.weight, std=sizes.std)
        layers += [nn.RMSNorm(sizes.width), read_out]
    return Block(nn.Sequential(*layers))
