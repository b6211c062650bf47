"""From a model's name, or a user's own network, to the blueprints of its blocks."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.network.block import Blueprint
from pipeline.network.from_modules import blueprints_from, blueprints_of, check_picklable
from pipeline.network.meta import skeleton

__all__ = ["LoadedModel", "blueprints_of", "load_model"]

_PACKAGE = "pipeline.models"
_EXPECTED = "nn.Sequential, a list of modules, or a list of Blueprint"


class LoadedModel(NamedTuple):
    """A model found by name."""

    blueprints: list[Blueprint]
    options: Mapping[str, Any]
    """Checked, every default filled in."""


def load_model(
    name: str, input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, Any]
) -> LoadedModel:
    """Blueprints of the named model's blocks.

    Args:
        name: of a file in ``pipeline/models``, or a dotted name of the user's own: a module with a ``build``, a
            function, or a network. A function takes ``(input_shape, num_outputs)`` or nothing, its options by
            keyword only, and returns an ``nn.Sequential``, modules (one for each block) or blueprints.
        input_shape: of one sample.
        num_outputs: of the network.
        options: the model's section of the config without its name.

    Raises:
        ConfigError: nobody has that name, an option is wrong, or no blocks can be had from what it names.
    """
    found = registry.load(_PACKAGE, name, "model")
    if isinstance(found, (nn.Module, list, tuple)):
        registry.check_options(_without_options, options, "model")
        return LoadedModel(_blueprints(found, name), {})
    if not (inspect.isroutine(found) or inspect.isclass(found) or isinstance(found, registry.Grouped)):
        raise ConfigError(
            f"this is no model (given: {name!r}, {type(found).__name__}; expected: a function, or {_EXPECTED}). "
            "Name another attribute."
        )
    checked = registry.check_options(found, options, "model")
    build: Callable[[], Any] = partial(found, *_arguments(found, name, tuple(input_shape), num_outputs), **checked)
    return LoadedModel(list(build()) if "." not in name else _called(build, name), checked)


def _without_options() -> None:
    """Stands for a network that exists already and has no options."""


def _arguments(
    found: Callable[..., Any], name: str, input_shape: tuple[int, ...], num_outputs: int
) -> tuple[tuple[int, ...], int] | tuple[()]:
    """What the user's function is called with besides its options."""
    parameters = inspect.signature(found).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    if len(required) == 2 or [p.name for p in positional[:2]] == ["input_shape", "num_outputs"]:
        return input_shape, num_outputs
    if not required:
        return ()
    taken = ", ".join(p.name for p in required)
    raise ConfigError(
        f"cannot call the model {name!r} (given: a function of {taken}; expected: of input_shape, num_outputs, or of "
        "nothing). Make its other parameters keyword-only: they are its options."
    )


def _called(build: Callable[[], Any], name: str) -> list[Blueprint]:
    """Blueprints from the user's own function."""
    try:
        sample = skeleton(build)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"cannot build the model {name!r} (its code says: {type(error).__name__}: {error}). "
            "Mend it, or the options given to it."
        ) from error
    if _all(sample, Blueprint):
        # Built on the meta device, they might hold tensors of it.
        return _blueprints(build(), name)
    _check_network(sample, name)
    return blueprints_from(build)


def _blueprints(found: Any, name: str) -> list[Blueprint]:
    """Blueprints from the user's own object."""
    if not _all(found, Blueprint):
        _check_network(found, name)
        return blueprints_of(found)
    for blueprint in found:
        check_picklable(blueprint.make, f"the block {blueprint.name!r}")
    return list(found)


def _check_network(found: object, name: str) -> None:
    """Raises ConfigError unless ``found`` is something that blocks can be taken from."""
    if not isinstance(found, nn.Sequential) and not _all(found, nn.Module):
        raise ConfigError(
            f"cannot take blocks from the model {name!r} (given: {type(found).__name__}, expected: {_EXPECTED}). "
            "Put its parts into an nn.Sequential in the order in which they are called."
        )


def _all(found: object, kind: type) -> bool:
    """Whether it is a list or tuple of ``kind`` and not empty."""
    return isinstance(found, Sequence) and len(found) > 0 and all(isinstance(x, kind) for x in found)
