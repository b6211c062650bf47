"""Checks values of options against their annotations, and spells annotations in the words of a config file."""

import math
import types
import typing
from typing import Annotated, Any, Literal, Union

from pipeline.errors import ConfigError
from pipeline.ranges import outside, range_of

__all__ = ["check_value", "describe"]


def check_value(value: Any, annotation: Any, key: str) -> Any:
    """Check a value against an annotation, and return it, an int as a float where a float is due.

    Args:
        value: value as TOML gives it.
        annotation: int, float, bool, str, None, Any, a Literal, a number with its range (see
            :mod:`pipeline.ranges`), list or tuple of these, or a union.
        key: key of the config, for error messages: ``train.epochs``.

    Raises:
        ConfigError: the value does not fit.
    """
    fits, converted = _convert(value, annotation)
    if not fits:
        given, allowed = f"{_short(value)}, {type(value).__name__}", _spell(annotation)
        if _convert(value, annotation, ranges=False)[0]:
            given, allowed = _short(value), outside(value, annotation) or "finite numbers"
        raise ConfigError(f"wrong value for {key} (given: {given}, expected: {allowed}). Change it.")
    return converted


def _short(value: Any) -> str:
    """A value for an error message of one line."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _convert(value: Any, annotation: Any, ranges: bool = True) -> tuple[bool, Any]:
    """True if ``value`` fits, and the converted value; without ``ranges``, whether its type does."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        fits, converted = _convert(value, args[0], ranges)
        allowed = range_of(annotation)
        return fits and (not ranges or allowed is None or converted in allowed), converted
    if annotation is Any:
        return True, value
    if origin is Literal:
        return value in args and type(value) in {type(a) for a in args}, value
    if origin in (Union, types.UnionType):
        for option in args:
            fits, converted = _convert(value, option, ranges)
            if fits:
                return True, converted
        return False, value
    if origin in (list, tuple):
        return _convert_list(value, origin, args, ranges)
    if annotation is float and type(value) in (int, float):
        return _as_float(value, ranges)
    if annotation is type(None):
        return value is None, value
    # bool is an int to Python, and never what the user meant by a number.
    return type(value) is annotation, value


def _as_float(value: float, ranges: bool) -> tuple[bool, Any]:
    """A number as a float, where one can hold it; with ``ranges`` it is to be finite."""
    try:
        return not ranges or math.isfinite(value), float(value)
    except OverflowError:
        return not ranges, value


def _convert_list(value: Any, origin: Any, args: tuple[Any, ...], ranges: bool) -> tuple[bool, Any]:
    """Convert a TOML array to ``list[int]`` or ``tuple[int, ...]``."""
    if not isinstance(value, (list, tuple)):
        return False, value
    converted = [_convert(v, args[0] if args else Any, ranges) for v in value]
    return all(fits for fits, _ in converted), origin(v for _, v in converted)


def describe(annotation: Any) -> str:
    """What an option takes, its range included: ``a whole number, at least 1, at most 9``."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        allowed = range_of(annotation)
        return _spell(annotation) + (f", {allowed}" if allowed is not None else "")
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args if a is not type(None))
    if origin in (list, tuple):
        return f"a list in which each is {describe(args[0])}"
    return _spell(annotation)


def _spell(annotation: Any) -> str:
    """Spell an annotation in the words of a config file."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _spell(args[0])
    if origin is Literal:
        return " or ".join(repr(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_spell(a) for a in args if a is not type(None))
    if origin in (list, tuple):
        return f"a list in which each is {_spell(args[0])}"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text", list: "a list"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )
