"""Shape inference: input and output of each block, where possible without allocating the network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.memory import check_room
from pipeline.network.block import Block, Blueprint
from pipeline.network.hard_units import Bernoulli
from pipeline.network.meta import skeleton
from pipeline.numerics.seeds import seeded

__all__ = ["BlockShapes", "infer_shapes"]

_BATCH = 2

_SMALL_BYTES = 2**24
"""Up to this size of weights a block is run on the CPU: the first product on the meta device imports torch's compiler,
which takes 1.4 s and 73 MB. A larger one is not worth its memory only to be measured."""


@dataclass(frozen=True, slots=True)
class BlockShapes:
    """Shapes and sizes of one block. Shapes are without the batch dimension."""

    in_shape: tuple[int, ...]
    body_shape: tuple[int, ...]
    """Shape of ``block.body(x)``, which local losses read."""
    out_shape: tuple[int, ...]
    """Shape of the activation that is sent to the next block."""
    dtype: torch.dtype
    """Dtype of that activation."""
    num_parameters: int
    draws_samples: bool = False
    """True where the output differs from call to call, in evaluation too."""


def infer_shapes(
    blueprints: Sequence[Blueprint],
    input_shape: tuple[int, ...],
    out_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    num_tokens: int = 0,
) -> list[BlockShapes]:
    """Infer the shapes of all blocks, in order, from a batch of two in evaluation mode.

    A block that is small, or cannot run on the meta device, is built and run on the CPU.

    Args:
        blueprints: blueprints of all blocks.
        input_shape: shape of one sample.
        out_shape: required of the last block's output for one sample; None for any.
        dtype: dtype of the samples.
        num_tokens: different tokens that samples have, from 0; 0 where they are numbers.

    Raises:
        ConfigError: a block does not fit into memory, does not accept the output of the one before it, writes into its
            input, or does not return one tensor with the batch as its first dimension; the first fails at a token; or
            the last does not return scores of ``out_shape``.
    """
    shapes: list[BlockShapes] = []
    in_shape, tokens = tuple(input_shape), dtype
    for index, blueprint in enumerate(blueprints):
        block = _infer(index, blueprint, in_shape, dtype)
        shapes.append(block)
        in_shape, dtype = block.out_shape, block.dtype
    if num_tokens and blueprints:
        _check_tokens(blueprints[0], tuple(input_shape), tokens, num_tokens)
    if out_shape is not None and in_shape != out_shape:
        raise ConfigError(
            f"the last block does not return the scores that the task needs (given: {in_shape} for each sample, "
            f"expected: {out_shape}). Change the model's last layer."
        )
    return shapes


def _infer(index: int, blueprint: Blueprint, in_shape: tuple[int, ...], dtype: torch.dtype) -> BlockShapes:
    """Infer one block's shapes, on the meta device if it runs there."""
    where = f"block {index}, {blueprint.name}"
    with seeded(0):
        try:
            block = skeleton(blueprint.make).to("meta")
        except Exception:
            return _run_on_cpu(blueprint, torch.zeros(_BATCH, *in_shape, dtype=dtype), where)
        small = _check_room(block, where) <= _SMALL_BYTES
        if small or not dtype.is_floating_point:  # the meta device multiplies tokens by weights without complaint
            return _run_on_cpu(blueprint, torch.zeros(_BATCH, *in_shape, dtype=dtype), where)
        try:
            return _run(block, torch.zeros(_BATCH, *in_shape, dtype=dtype, device="meta"), where)
        except Exception:
            # On the CPU it may work, and if it does not, the message is the one that the user would see.
            return _run_on_cpu(blueprint, torch.zeros(_BATCH, *in_shape, dtype=dtype), where)


def _check_tokens(first: Blueprint, in_shape: tuple[int, ...], dtype: torch.dtype, num_tokens: int) -> None:
    """Refuse a block that runs on tokens 0 and not on the last one: training would fail at the first rare token."""
    x = torch.full((_BATCH, *in_shape), num_tokens - 1, dtype=dtype)
    try:
        with seeded(0), torch.no_grad():
            first.make().eval().body(x)
    except Exception as error:
        raise ConfigError(
            f"the vocabulary is too small (given: block 0, {first.name}, fails at the token {num_tokens - 1}, "
            f"{type(error).__name__}: {error}, expected: tokens from 0 to {num_tokens - 1}). Give the embedding at "
            f"least {num_tokens} rows (model.vocabulary of the built-in models)."
        ) from error


def _check_room(block: Block, where: str) -> int:
    """Refuse a block whose weights alone do not fit: it will be built, to see whether its rule fits it.

    Returns: bytes of its weights.
    """
    num_bytes = sum(p.numel() * p.element_size() for p in block.parameters())
    check_room({f"for the weights of {where}": num_bytes}, "Make it smaller, e.g. by model.width.")
    return num_bytes


def _run_on_cpu(blueprint: Blueprint, x: Tensor, where: str) -> BlockShapes:
    try:
        return _run(blueprint.make(), x, where)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"a block cannot run (given: {where}, samples of shape {tuple(x.shape[1:])} and {x.dtype}; it says: "
            f"{type(error).__name__}: {error}). Change this block, or the one before it."
        ) from error


def _run(block: Block, x: Tensor, where: str) -> BlockShapes:
    """Run a block on a batch on its device, and take its shapes."""
    block.eval()
    with torch.no_grad():
        h = _called(block.body, x, where)
        out = _called(block.outlet, h, where)
    return BlockShapes(
        in_shape=tuple(x.shape[1:]),
        body_shape=tuple(h.shape[1:]),
        out_shape=tuple(out.shape[1:]),
        dtype=out.dtype,
        num_parameters=sum(p.numel() for p in block.parameters()),
        draws_samples=any(isinstance(m, Bernoulli) for m in block.modules()),
    )


def _called(module: nn.Module, x: Tensor, where: str) -> Tensor:
    """Call ``module``; raise ConfigError unless it returns one tensor of the batch size and leaves ``x`` as it is."""
    version = x._version
    out = module(x)
    if x._version != version:
        raise ConfigError(
            f"a block writes into its input, which others still read (given: {where}, expected: no in-place "
            "operation on its input). Replace x += y by x = x + y, relu_ by relu."
        )
    if isinstance(out, Tensor) and out.shape[:1] == (_BATCH,):
        return out
    given = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise ConfigError(
        f"a block does not map a batch to a batch (given: {where}, returns {given} for {_BATCH} samples; expected: "
        f"one tensor of {_BATCH} rows). Wrap it in a module that does."
    )
