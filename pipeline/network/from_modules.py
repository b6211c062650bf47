"""Cuts a user's own network into blocks, without changes to its code.

An ``nn.Sequential`` is cut before every child that has parameters; normalisation layers and children without
parameters stay with the block before them, and those that lead the network with the first. A child that is itself a
container is one block, so that brackets are the way to say what belongs together. Dropout, pooling and ``Flatten`` at
the end of a block are its outlet, but nothing follows the last block: all of it is body. A list of
modules is taken as one block each.

The blocks one after another compute exactly what the network does; ``inplace=True`` is undone, and state that blocks
would share is refused.
"""

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeAlias

from torch import nn
from torch.nn.modules import batchnorm, dropout, pooling
from torch.nn.parameter import is_lazy

from pipeline.errors import ConfigError, one_line
from pipeline.network.block import Block, Blueprint
from pipeline.network.meta import skeleton

__all__ = [
    "UserModel", "BlockLayers", "blocks_in", "blueprints_from", "blueprints_of", "check_picklable", "cut_into_blocks",
]  # fmt: skip

UserModel: TypeAlias = nn.Module | Sequence[nn.Module]
"""An ``nn.Sequential``, or modules that are one block each; any other module is refused."""

_JOINING = (batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)
"""Layers that have parameters and yet belong to the block before them."""

_OUTLET = (
    dropout._DropoutNd,
    pooling._MaxPoolNd,
    pooling._AvgPoolNd,
    pooling._AdaptiveAvgPoolNd,
    pooling._AdaptiveMaxPoolNd,
    pooling._LPPoolNd,
    nn.Flatten,
    nn.Identity,
)


@dataclass(frozen=True)
class BlockLayers:
    """The layers of one block, in order."""

    layers: tuple[nn.Module, ...]
    name: str
    is_last: bool

    def block(self) -> Block:
        """The layers as body and outlet, not copied."""
        if len(self.layers) == 1 and isinstance(self.layers[0], Block):
            return self.layers[0]
        cut = len(self.layers)
        while not self.is_last and cut > 1 and isinstance(self.layers[cut - 1], _OUTLET):
            cut -= 1
        return Block(_chained(self.layers[:cut]), _chained(self.layers[cut:]) if cut < len(self.layers) else None)


def blueprints_of(network: UserModel) -> list[Blueprint]:
    """Blueprints of an existing network, with copies of its present weights.

    A worker receives the weights of the blocks that it builds, and no others.

    Args:
        network: an ``nn.Sequential``, cut as this module describes; or modules, one for each block.

    Raises:
        ConfigError: it cannot be cut, copied or sent to a worker.
    """
    return [_frozen(part) for part in cut_into_blocks(network)]


def blueprints_from(build: Callable[[], UserModel]) -> list[Blueprint]:
    """Blueprints of the network that a function returns, with initial weights from the run's seed.

    The function is called once for each block, under that block's own seed, and all but the block is thrown away: the
    function draws the weights of the whole network in one go, and any other way would make a block depend on which
    others are built with it.

    Args:
        build: returns the same structure at every call; picklable.

    Raises:
        ConfigError: what it returns cannot be cut into blocks, or it cannot be sent to a worker.
    """
    check_picklable(build, "the function that builds the model")
    parts = cut_into_blocks(skeleton(build))
    return [Blueprint(partial(_part_of, build, i), part.name) for i, part in enumerate(parts)]


def blocks_in(network: UserModel) -> list[Block]:
    """The blocks of a network over its own layers, which are not copied; ``inplace=True`` is undone in them.

    Raises:
        ConfigError: see :func:`cut_into_blocks`.
    """
    return [_out_of_place(part.block()) for part in cut_into_blocks(network)]


def cut_into_blocks(network: UserModel) -> list[BlockLayers]:
    """The layers of each block, the network's own and not copies.

    Raises:
        ConfigError: it is another kind of module, or an ``nn.Sequential`` that does more than call its children; no
            layer has parameters, or a block has none, a lazy layer, or state that it shares with another block.
    """
    named = _groups(network) if isinstance(network, nn.Module) else [[("", m)] for m in network]
    last = len(named) - 1
    parts = [
        BlockLayers(tuple(chain.from_iterable(_flat(m) for _, m in group)), _name(group), i == last)
        for i, group in enumerate(named)
    ]
    if not parts:
        raise ConfigError("the model has no layer with parameters (given: 0, expected: at least 1). Add one.")
    _check_state(parts)
    return parts


_AT_TOP_LEVEL = "Define its functions and classes at the top level of a module"
_BY_FUNCTION = "name a function that builds the network, which is then not sent, e.g. model.name=nets.mine"


def check_picklable(thing: object, noun: str, advice: str = f"{_AT_TOP_LEVEL}.") -> None:
    """Raise ConfigError unless ``thing`` can be sent to another process.

    Args:
        thing: any object.
        noun: its name in the message.
        advice: what to do, as a sentence.
    """
    try:
        pickle.Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(thing)
    except Exception as error:
        raise ConfigError(
            f"cannot send {noun} to a worker (given: {one_line(error)}, expected: something picklable). {advice}"
        ) from error


class _Nowhere:
    """File that discards what is written."""

    def write(self, data: bytes) -> int:
        return len(data)


def _part_of(build: Callable[[], UserModel], index: int) -> Block:
    return _out_of_place(cut_into_blocks(build())[index].block())


def _out_of_place(block: Block) -> Block:
    """Undo ``inplace=True``: a rule keeps tensors that the next layer would overwrite."""
    for module in block.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)
    return block


def _frozen(part: BlockLayers) -> Blueprint:
    """Blueprint of a copy made now, so that the user may change the original; each build copies it again."""
    try:
        block = _out_of_place(copy.deepcopy(part.block()))
    except Exception as error:
        raise ConfigError(
            f"cannot copy a block (given: {part.name}, {one_line(error)}). {_BY_FUNCTION[0].upper()}{_BY_FUNCTION[1:]}."
        ) from error
    make = partial(copy.deepcopy, block)
    check_picklable(make, f"the block {part.name!r}", f"{_AT_TOP_LEVEL}, or {_BY_FUNCTION}.")
    return Blueprint(make, part.name, seed_free=True)


def _groups(network: nn.Module) -> list[list[tuple[str, nn.Module]]]:
    """The children of each block with their names."""
    if not isinstance(network, nn.Sequential):
        raise ConfigError(
            f"cannot take blocks from this module (given: {type(network).__name__}, expected: nn.Sequential, or a "
            "list of modules, one for each block). Put its parts into an nn.Sequential in the order they are called."
        )
    if not _is_plain(network):
        raise ConfigError(
            f"this nn.Sequential does more than call its children (given: {type(network).__name__} with a forward or "
            "hooks of its own). Wrap it: nn.Sequential(...) of its parts."
        )
    groups: list[list[tuple[str, nn.Module]]] = []
    leading: list[tuple[str, nn.Module]] = []
    for name, child in network._modules.items():
        if _opens(child):
            groups.append([*leading, (name, child)])
            leading = []
        else:
            (groups[-1] if groups else leading).append((name, child))
    return groups


def _opens(child: nn.Module) -> bool:
    """True where a new block begins with this child."""
    return not isinstance(child, _JOINING) and any(True for _ in child.parameters())


def _is_plain(module: nn.Sequential) -> bool:
    """True where the module only calls its children one after another."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return type(module).forward is nn.Sequential.forward and not any(hooks)


def _flat(module: nn.Module) -> list[nn.Module]:
    """The layers inside nested ``nn.Sequential``, so that an outlet is found at the end of the innermost."""
    if not isinstance(module, nn.Sequential) or not _is_plain(module):
        return [module]
    # Not children(), which names a layer once even where it is called twice.
    return [layer for child in module for layer in _flat(child)]


def _chained(layers: Sequence[nn.Module]) -> nn.Module:
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _name(group: Sequence[tuple[str, nn.Module]]) -> str:
    """Name of a block: the user's own for its main layer, else that layer's kind and sizes."""
    name, module = next(((n, m) for n, m in group if _opens(m)), group[0])
    if name and not name.isdigit():
        return name
    if isinstance(module, Block):
        module = module.body
    layer = next((m for m in _flat(module) if _opens(m)), module)
    if isinstance(layer, nn.Linear):
        return f"linear {layer.in_features}-{layer.out_features}"
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return f"conv {layer.in_channels}-{layer.out_channels}"
    return type(layer).__name__.lower()


def _check_state(parts: Sequence[BlockLayers]) -> None:
    """Raise ConfigError unless each block has parameters, their sizes are known, and it shares no state."""
    owners: dict[int, int] = {}
    for i, part in enumerate(parts):
        parameters = [p for layer in part.layers for p in layer.parameters()]
        if not parameters:
            raise ConfigError(
                f"a block has no parameters (given: block {i}, {part.name}). Join it to the block before it."
            )
        if any(is_lazy(p) for p in parameters):
            raise ConfigError(
                f"the sizes of a layer are not known yet (given: a lazy layer in block {i}, {part.name}). "
                "Run the network once, or name its sizes."
            )
        for tensor in chain(parameters, *(layer.buffers() for layer in part.layers)):
            owner = owners.setdefault(id(tensor), i)
            if owner != i:
                raise ConfigError(
                    f"two blocks share a tensor (given: blocks {owner} and {i}, expected: weights of their own). "
                    "Untie them, or bracket these layers as one nn.Sequential inside the model."
                )
