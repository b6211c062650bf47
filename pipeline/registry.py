"""Finds rules, models, data sets and transports by name, and checks the options given to them.

A thing is a file in its folder whose name is the config name and which defines ``build(...)``; the keyword-only
parameters of ``build`` are its options. One that is annotated with a dataclass is a group: the fields of the dataclass
are options. A dotted name is the user's own: ``package.module`` (with a ``build``) or ``package.module.attribute``.
"""

import ast
import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from pipeline.errors import ConfigError
from pipeline.values import check_value

__all__ = [
    "Grouped", "Named", "check_options", "defaults", "known", "load", "nearest", "options_of", "resolve", "summary",
]  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A named thing: its ``build``, and the options to call that with, every default filled in."""

    build: Callable[..., Any]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Grouped:
    """A ``build`` with option groups, called with the fields of a group in place of the group.

    Raises:
        ConfigError: two of its options have the same name.
    """

    build: Callable[..., Any]

    def __post_init__(self) -> None:
        groups = list(filter(_is_group, _signature(self.build)))
        # A field may have its own group's name, but no other option may: it would take the group's place.
        names = [p.name for p in self._parameters()]
        names += [g.name for g in groups if g.name in names and g.name not in {f.name for f in _fields(g)}]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"two options have the same name (given: {', '.join(twice)} in {self.build.__module__}."
                f"{self.build.__qualname__} and its groups of options). Rename one of them."
            )

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of ``build`` with the fields of each group in its place."""
        return inspect.Signature(self._parameters())

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call ``build``; an option that is left out has its default."""
        groups: dict[str, Any] = {}
        for group in filter(_is_group, _signature(self.build)):
            given = {f.name: options.pop(f.name) for f in _fields(group) if f.name in options}
            make = group.annotation if group.default is group.empty else partial(dataclasses.replace, group.default)
            groups[group.name] = make(**given)
        return self.build(*args, **options, **groups)

    def _parameters(self) -> list[inspect.Parameter]:
        return [q for p in _signature(self.build) for q in (_fields(p) if _is_group(p) else [p])]


def _signature(build: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(build, eval_str=True).parameters.values())


def _is_group(parameter: inspect.Parameter) -> bool:
    is_dataclass = isinstance(parameter.annotation, type) and dataclasses.is_dataclass(parameter.annotation)
    return parameter.kind is parameter.KEYWORD_ONLY and is_dataclass


def _fields(group: inspect.Parameter) -> list[inspect.Parameter]:
    """The options of a group; their defaults are those of the group's own default, else those of its dataclass."""
    hints, parameters = typing.get_type_hints(group.annotation, include_extras=True), []
    for field in filter(lambda f: f.init, dataclasses.fields(group.annotation)):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        default = group.empty if default is dataclasses.MISSING else default
        default = default if group.default is group.empty else getattr(group.default, field.name)
        option = inspect.Parameter(field.name, group.kind, default=default, annotation=hints[field.name])
        parameters.append(option)
    return parameters


_MOVED = {"rule.closed_form": "run.closed_form"}
"""Options that became keys of another section."""


def known(package: str) -> list[str]:
    """Names of the files of ``package`` (``"pipeline.rules"``), sorted, private ones left out."""
    return list(_names(tuple(importlib.import_module(package).__path__)))


@cache  # asked for by every block of every run, and read from the disk
def _names(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")))


def nearest(given: object, allowed: list[str]) -> str:
    """Hint for an error message: ``Did you mean 'pred'? `` or an empty string."""
    close = difflib.get_close_matches(str(given), allowed, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def load(package: str, name: str, noun: str) -> Any:
    """Look up a name: the ``build`` of a file of ``package``, or the user's own object behind a dotted name.

    Args:
        package: ``pipeline.rules``, ``pipeline.models``, ``pipeline.datasets`` or ``workers.transports``.
        name: name of a file, or a dotted name.
        noun: kind of thing, for error messages: ``rule``.

    Raises:
        ConfigError: no file has that name, the user's module cannot be imported or has no ``build``, or two options
            have the same name.
    """
    if "." in name:
        return _ungrouped(_load_dotted(name, noun))
    names = known(package)
    if name not in names:
        raise ConfigError(
            f"unknown {noun} (given: {name!r}, expected: {', '.join(names)}, or a dotted name of your own). "
            f"{nearest(name, names)}See launch.py --list."
        )
    return _ungrouped(importlib.import_module(f"{package}.{name}").build)


def _ungrouped(build: Any) -> Any:
    """``build`` itself, or where it has option groups a callable that takes their fields."""
    if not (inspect.isroutine(build) or inspect.isclass(build)):
        return build
    # Annotations are evaluated only where there are options: they may name what is imported for type checkers alone.
    if all(p.kind is not p.KEYWORD_ONLY for p in inspect.signature(build).parameters.values()):
        return build
    try:
        has_groups = any(map(_is_group, _signature(build)))
    except NameError:  # told where the options are checked, if they are
        return build
    return Grouped(build) if has_groups else build


def _load_dotted(name: str, noun: str) -> Any:
    """Import ``package.module`` or ``package.module.attribute``."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"not a name of a {noun} (given: {name!r}, expected: package.module or package.module.attribute). "
            "Write the path with dots and without .py."
        )
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        parent, _, attribute = name.rpartition(".")
        try:
            outer = importlib.import_module(parent)
        except ImportError:
            raise ConfigError(
                f"cannot import the {noun} {name!r} ({error}). "
                "Run from the folder that holds the module, or put it on PYTHONPATH."
            ) from None
        if not hasattr(outer, attribute):
            raise ConfigError(
                f"cannot find the {noun} (given: {name!r}, expected: a module, or an attribute of {parent!r}; "
                f"importing it says: {error}). {nearest(attribute, dir(outer))}Correct the name or the module."
            ) from None
        return getattr(outer, attribute)
    if not hasattr(module, "build"):
        raise ConfigError(
            f"the module of this {noun} defines no build() (given: {name!r}). "
            "Define build(...), or name the attribute: package.module.attribute."
        )
    return module.build


def resolve(package: str, name: str, noun: str, section: str, options: Mapping[str, Any]) -> Named:
    """Look up a named thing and check its options.

    Raises:
        ConfigError: see :func:`load` and :func:`check_options`.
    """
    build = load(package, name, noun)
    return Named(build, check_options(build, options, section))


def summary(package: str, name: str) -> str:
    """First line of the docstring of a named file, for ``--list``; read, not imported: what it needs may be missing."""
    source = pkgutil.get_data(package, f"{name}.py") or b""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def options_of(build: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Options of ``build``: its keyword-only parameters."""
    return {p.name: p for p in _signature(build) if p.kind is p.KEYWORD_ONLY}


def defaults(build: Callable[..., Any]) -> dict[str, Any]:
    """Defaults of the options of ``build``; options without one are left out."""
    return {n: p.default for n, p in options_of(build).items() if p.default is not p.empty}


def check_options(build: Callable[..., Any], options: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Check options, and complete them with the defaults of ``build``.

    Args:
        build: callable whose keyword-only parameters are the options, their annotations the types.
        options: options as the user wrote them.
        section: section of the config, for error messages: ``rule``.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or a required option left out.
    """
    parameters = options_of(build)
    for key in options:
        if key not in parameters:
            given = f"{section}.{key}"
            allowed = ", ".join(f"{section}.{n}" for n in parameters) or "no further options here"
            hint = f"It is {_MOVED[given]} now. " if given in _MOVED else nearest(key, list(parameters))
            raise ConfigError(f"unknown key (given: {given}, expected: {allowed}). {hint}Correct or remove it.")
    checked = defaults(build)
    for name, parameter in parameters.items():
        if name in options:
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            checked[name] = check_value(options[name], annotation, f"{section}.{name}")
        elif name not in checked:
            raise ConfigError(f"a key is missing (expected: {section}.{name}). Add it to the config.")
    return checked
