"""Loads a model: from its name, or a user's own network, to the blueprints of its blocks."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.network.block import Blueprint
from pipeline.network.from_modules import UserModel, blueprints_from, blueprints_of, check_picklable
from pipeline.network.meta import skeleton
from pipeline.numerics.seeds import seeded

__all__ = ["LoadedModel", "blueprints_of", "load_model", "load_network"]

_PACKAGE = "pipeline.models"
_EXPECTED = "nn.Sequential, a list of modules, or a list of Blueprint"


class LoadedModel(NamedTuple):
    """Result of :func:`load_model`."""

    blueprints: list[Blueprint]
    options: Mapping[str, Any]
    """The model's options, checked and with every default filled in."""


def load_model(
    name: str, input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, Any]
) -> LoadedModel:
    """Load a named model: the blueprints of its blocks, and its complete options.

    Args:
        name: name of a file in ``pipeline/models``, or a dotted name of the user's own: a module with a ``build``, a
            function, or a network. A function takes ``(input_shape, num_outputs)`` or nothing, its options by
            keyword only, and returns an ``nn.Sequential``, modules (one for each block) or blueprints.
        input_shape: shape of one sample.
        num_outputs: width of the network's output.
        options: the model's section of the config without its name.

    Raises:
        ConfigError: the name is unknown, an option is wrong, or the named object cannot be cut into blocks.
    """
    model = registry.load(_PACKAGE, name, "model")
    if isinstance(model, (nn.Module, list, tuple)):
        registry.check_options(_without_options, options, "model")
        return LoadedModel(_blueprints(model, name), {})
    if not (inspect.isroutine(model) or inspect.isclass(model) or isinstance(model, registry.Grouped)):
        raise ConfigError(
            f"not a model (given: {name!r}, {type(model).__name__}; expected: a function, or {_EXPECTED}). "
            "Name another attribute."
        )
    checked = registry.check_options(model, options, "model")
    build: Callable[[], Any] = partial(model, *_arguments(model, name, tuple(input_shape), num_outputs), **checked)
    return LoadedModel(list(build()) if "." not in name else _called(build, name), checked)


def load_network(
    name: str, input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, Any]
) -> UserModel | None:
    """The network behind a dotted name as its user wrote it, its weights whatever they are.

    Args:
        name, input_shape, num_outputs, options: see :func:`load_model`, which has accepted them.

    Returns:
        What the function returns, or a copy of the user's own object; None where blueprints stand for the network.
    """
    if "." not in name:
        return None
    model = registry.load(_PACKAGE, name, "model")
    if isinstance(model, (nn.Module, list, tuple)):
        model = copy.deepcopy(model if isinstance(model, nn.Module) else list(model))
    else:
        checked = registry.check_options(model, options, "model")
        with seeded(0):
            model = model(*_arguments(model, name, tuple(input_shape), num_outputs), **checked)
    if _all(model, Blueprint):
        return None
    _check_network(model, name)
    network: UserModel = model
    return network


def _without_options() -> None:
    """Signature of an existing network, which has no options."""


def _arguments(
    function: Callable[..., Any], name: str, input_shape: tuple[int, ...], num_outputs: int
) -> tuple[tuple[int, ...], int] | tuple[()]:
    """Positional arguments for the user's function: input shape and number of outputs, or none."""
    parameters = inspect.signature(function).parameters.values()
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
    """Call the user's function, and take blueprints from its result."""
    try:
        sample = skeleton(build)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"cannot build the model {name!r} (its code says: {type(error).__name__}: {error}). "
            "Fix that code, or the options of the section [model]."
        ) from error
    if _all(sample, Blueprint):
        # Built on the meta device, they might hold tensors of it.
        return _blueprints(build(), name)
    _check_network(sample, name)
    return blueprints_from(build)


def _blueprints(model: Any, name: str) -> list[Blueprint]:
    """Blueprints from the user's own object: a network, modules or blueprints."""
    if not _all(model, Blueprint):
        _check_network(model, name)
        return blueprints_of(model)
    for blueprint in model:
        check_picklable(blueprint.make, f"the block {blueprint.name!r}")
    return list(model)


def _check_network(network: object, name: str) -> None:
    """Raise ConfigError unless ``network`` can be cut into blocks."""
    if not isinstance(network, nn.Sequential) and not _all(network, nn.Module):
        raise ConfigError(
            f"cannot take blocks from the model {name!r} (given: {type(network).__name__}, expected: {_EXPECTED}). "
            "Put its parts into an nn.Sequential in the order in which they are called."
        )


def _all(items: object, kind: type) -> bool:
    """True for a non-empty list or tuple of ``kind``."""
    return isinstance(items, Sequence) and len(items) > 0 and all(isinstance(x, kind) for x in items)
