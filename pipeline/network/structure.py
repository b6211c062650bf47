"""The structure of a network that was handed over as an object: its modules, as bytes, without the weights of blocks.

Written so that the trained weights can be put back into modules of the same kind under the same names. What a module
holds beside its parameters and persistent buffers stays as it is. Reading such bytes makes modules, and calls at most
functions of ``torch.nn.functional``: torch's own reader for weights does it, which is told them. Classes are imported
by name from this machine, as a dotted name in a config is: modules that are named run as they are imported.
"""

import copy
import importlib
import io
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.network.from_modules import UserModel, cut_into_blocks

__all__ = ["pack_structure", "unpack_structure"]

_REMEDY = "Pass the network itself: onward.load(run, model=network)."
_FUNCTIONS = ("torch.nn.functional", "torch._C._nn")
"""Where functions are that a module may refer to; what these import from elsewhere is not theirs."""


def pack_structure(network: UserModel) -> bytes:
    """The structure of a network, to be read by :func:`unpack_structure`.

    Args:
        network: as it was handed over to a run; not changed.
    """
    layers = [layer for part in cut_into_blocks(network) for layer in part.layers]
    state = [t for layer in layers for t in layer.state_dict(keep_vars=True).values() if isinstance(t, Tensor)]
    file = io.BytesIO()
    torch.save(_copied(network, state, lambda t: t.detach().to("meta")), file)
    return file.getvalue()


def unpack_structure(data: bytes) -> UserModel:
    """The network that :func:`pack_structure` was given, on the CPU, the weights of its blocks not yet set.

    Raises:
        ConfigError: one of its classes is not there, or is no module; or these are other bytes.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data))
        with torch.serialization.safe_globals([_class_of(name) for name in names]):
            network: UserModel = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(network, nn.Module) and not all(isinstance(m, nn.Module) for m in network):
            raise TypeError("these are no modules")
    except ConfigError:
        raise
    except Exception as error:  # its reader raises whatever it stumbles over
        raise ConfigError(f"the structure of the network cannot be read ({type(error).__name__}). {_REMEDY}") from None
    state = [t for t in _tensors(network) if t.is_meta]
    return _copied(network, state, lambda t: torch.empty_like(t, device="cpu"))


def _copied(network: UserModel, state: list[Tensor], place: Callable[[Tensor], Tensor]) -> UserModel:
    """A copy of a network in which each tensor of ``state`` is what ``place`` makes of it, once where it is shared."""
    memo: dict[int, Any] = {}
    for tensor in state:
        placed = place(tensor)
        is_trained = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(placed, requires_grad=tensor.requires_grad) if is_trained else placed
    modules = network if isinstance(network, nn.Module) else list(network)
    return copy.deepcopy(modules, memo)


def _tensors(network: UserModel) -> Iterator[Tensor]:
    """Parameters and buffers."""
    for module in [network] if isinstance(network, nn.Module) else network:
        yield from module.parameters()
        yield from module.buffers()


def _class_of(name: str) -> Any:
    """The class of a module, or a function of ``torch.nn.functional`` that a module refers to, by its full name.

    Raises:
        ConfigError: it is neither, or not there.
    """
    found, parts = None, name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = attrgetter(".".join(parts[cut:]))(importlib.import_module(".".join(parts[:cut])))
            break
        except (ImportError, AttributeError):
            continue
    if (isinstance(found, type) and issubclass(found, nn.Module)) or _is_layer(found, name):
        return found
    raise ConfigError(
        f"a part of the network is {'not there' if found is None else 'no module'} (given: {name}, expected: the class "
        f"of a module, to be imported from here). {_REMEDY}"
    )


def _is_layer(found: Any, name: str) -> bool:
    """It is a function of layers: it takes tensors and gives tensors."""
    home, _, own = name.rpartition(".")
    is_function = isinstance(found, FunctionType | BuiltinFunctionType)
    return is_function and home in _FUNCTIONS and found.__module__ in _FUNCTIONS and not own.startswith("_")
