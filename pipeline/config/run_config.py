"""A run as the user wrote it: TOML file, then ``section.key=value`` overrides, checked before a process starts.

Sections that name a thing (model, dataset, rule, optimizer) hold the thing's options beside its name; their names
and types are those of its ``build`` function and are checked in :mod:`pipeline.resolve`. The other sections are
fixed dataclasses, in :mod:`pipeline.config.sections`.
"""

import dataclasses
import errno
import inspect
import os
import select
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pipeline.config.blocks import INHERITED, NAMES_BLOCKS, read_blocks
from pipeline.config.chaos import ChaosConfig
from pipeline.config.gate import GateConfig
from pipeline.config.sections import (
    MeasureConfig,
    NamedConfig,
    RestartConfig,
    RunConfig,
    ScheduleConfig,
    SnapshotConfig,
    TrainConfig,
    TransportConfig,
)
from pipeline.errors import ConfigError
from pipeline.ranges import Range, Seed, check_fields
from pipeline.registry import nearest
from pipeline.values import check_value

__all__ = ["Config", "LoadedConfig", "load_config", "of_every_dataset", "section_options"]

_MOST_BYTES = 2**20
_PATIENCE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, complete."""

    seed: Seed = 0
    """From it and the block's index come all initial weights; from it and the step, everything random."""
    model: NamedConfig = NamedConfig(name="mlp")
    dataset: NamedConfig = NamedConfig(name="digits")
    rule: NamedConfig = NamedConfig(name="predsim")
    optimizer: NamedConfig = NamedConfig(name="adam")
    train: TrainConfig = TrainConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    gate: GateConfig = GateConfig()
    transport: TransportConfig = TransportConfig()
    run: RunConfig = RunConfig()
    measure: MeasureConfig = MeasureConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
    restart: RestartConfig = RestartConfig()
    chaos: ChaosConfig = ChaosConfig()

    def __post_init__(self) -> None:
        check_fields(self, "")

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """A config from nested tables as TOML gives them.

        Raises:
            ConfigError: an unknown section or key, a value of the wrong type or out of range.
        """
        table = _moved(table)
        sections = {f.name: f for f in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls, include_extras=True)
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in sections:
                raise ConfigError(
                    f"unknown section (given: {name}, expected: {', '.join(sections)}). "
                    f"{nearest(name, list(sections))}Correct or remove it."
                )
            values[name] = _section(name, value, hints[name], sections[name].default)
        return cls(**values)

    def overridden(self, overrides: Sequence[str]) -> Self:
        """This config with ``section.key=value`` overrides; naming another thing drops the options of the old one.

        Raises:
            ConfigError: an override cannot be read, or is wrong.
        """
        table = self.to_dict()
        _apply(table, overrides)
        return self.from_dict(table)

    def to_dict(self) -> dict[str, Any]:
        """Nested tables, every default included; :meth:`from_dict` gives the same config again."""
        table: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, NamedConfig):
                own = {"blocks": {k: dict(v) for k, v in value.blocks.items()}} if value.blocks else {}
                table[item.name] = {"name": value.name, **value.options, **own}
            elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                table[item.name] = dataclasses.asdict(value)
            else:
                table[item.name] = value
        return table


def of_every_dataset(*, validation: Annotated[float, Range(0, 1, below=True)] = 0.0) -> None:
    """The options of ``[dataset]`` that every data set has: the share of its training samples that is held out."""


def section_options() -> dict[str, dict[str, inspect.Parameter]]:
    """The keys of every section that names nothing, by the section's name, as options with their defaults."""
    found, kind = {}, inspect.Parameter.KEYWORD_ONLY
    for item in dataclasses.fields(Config):
        section = getattr(Config(), item.name)
        if dataclasses.is_dataclass(section) and not isinstance(section, NamedConfig):
            hints = typing.get_type_hints(type(section), include_extras=True)
            found[item.name] = {
                key: inspect.Parameter(key, kind, default=getattr(section, key), annotation=hint)
                for key, hint in hints.items()
            }
    return found


@dataclass(frozen=True)
class LoadedConfig:
    """A config and the name of the file that it came from, which names the run's folder."""

    config: Config
    name: str


def load_config(path: Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Reads a TOML file and applies ``section.key=value`` overrides.

    Raises:
        ConfigError: no such file, not TOML, or something in it is wrong.
    """
    try:
        table = tomllib.loads(_read(path))
    except OSError as error:
        raise ConfigError(
            f"cannot read the config (given: {path}, {error.strerror}). Name a TOML file, e.g. configs/digits.toml."
        ) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, more digits than int takes
        raise ConfigError(f"the config is not TOML (given: {path}, {error}). Correct that line.") from None
    _apply(table, overrides)
    return LoadedConfig(Config.from_dict(table), path.stem)


def _read(path: Path) -> str:
    """The text of a config, which may come through a pipe (``--config <(...)``); OSError where none comes."""
    parts: list[bytes] = []
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        while sum(map(len, parts)) <= _MOST_BYTES:
            if not select.select([file], [], [], _PATIENCE_S)[0]:
                raise TimeoutError(errno.ETIMEDOUT, f"nothing came through it for {_PATIENCE_S:.0f} s")
            part = file.read(65_536)
            if not part:
                return b"".join(parts).decode("utf8")
            parts.append(part)
    raise OSError(errno.EFBIG, f"it is longer than {_MOST_BYTES} bytes")


def _moved(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table with ``rule.closed_form`` as ``run.closed_form``: configs that older runs recorded can be repeated."""
    rule = table.get("rule")
    if not isinstance(rule, Mapping) or "closed_form" not in rule or "." in str(rule.get("name", "")):
        return table
    run = {"closed_form": rule["closed_form"], **table.get("run", {})}
    return {**table, "rule": {k: v for k, v in rule.items() if k != "closed_form"}, "run": run}


def _apply(table: dict[str, Any], overrides: Sequence[str]) -> None:
    """Applies overrides to ``table``."""
    if wrong := [override for override in overrides if not isinstance(override, str)]:
        raise ConfigError(
            f"an override is text (given: {type(wrong[0]).__name__}, expected: \"section.key=value\", e.g. "
            "\"train.epochs=5\"). Write it so, or put it into the config."
        )
    for override in sorted(overrides, key=_turn):
        _override(table, override)


def _turn(override: str) -> tuple[bool, int]:
    """Names first, those of sections before those of their blocks: naming a thing drops the options of the one before
    it, and nothing that is given with the new name."""
    key = override.partition("=")[0]
    is_name = key.endswith(".name")
    return not is_name, key.count(".") if is_name else 0


def _override(table: dict[str, Any], override: str) -> None:
    """Applies one ``section.key=value`` to ``table``; the value is TOML, or text where it is not."""
    key, equals, text = override.partition("=")
    path = key.split(".")
    deepest = 4 if path[0] in NAMES_BLOCKS and path[1:2] == ["blocks"] else 2
    if not equals or not all(path) or len(path) not in (1, 2, deepest):
        raise ConfigError(
            f"cannot read the override (given: {override!r}, expected: section.key=value, e.g. train.epochs=5). "
            "Correct it."
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError, RecursionError):
        value = text
    target = table
    for part in path[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ConfigError(
                f"cannot override (given: {override!r}): {part} is a value, not a section. Write {part}=value."
            )
    default = getattr(Config, path[0], None)
    if path[1:] == ["name"] and isinstance(default, NamedConfig) and target.get("name", default.name) != value:
        # The options in the file belong to the thing that is being replaced; overrides that follow stay.
        for option in [k for k in target if k not in INHERITED.get(path[0], ())]:
            del target[option]
    target[path[-1]] = value


def _section(name: str, value: Any, hint: Any, default: Any) -> Any:
    """One top-level entry as the object that :class:`Config` holds."""
    if not dataclasses.is_dataclass(hint):
        return check_value(value, hint, name)
    if not isinstance(value, Mapping):
        raise ConfigError(f"wrong value for {name} (given: {value!r}, expected: a section [{name}]). Change it.")
    if hint is NamedConfig:
        options = dict(value)
        chosen = check_value(options.pop("name", default.name), str, f"{name}.name")
        blocks = read_blocks(name, options)
        return NamedConfig(name=chosen, options=options, blocks=blocks)
    assert isinstance(hint, type)
    hints = typing.get_type_hints(hint, include_extras=True)
    for key in value:
        if key not in hints:
            allowed = ", ".join(f"{name}.{k}" for k in hints)
            raise ConfigError(
                f"unknown key (given: {name}.{key}, expected: {allowed}). "
                f"{nearest(key, list(hints))}Correct or remove it."
            )
    return hint(**{k: check_value(v, hints[k], f"{name}.{k}") for k, v in value.items()})
