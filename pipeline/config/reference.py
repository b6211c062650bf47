"""The reference of the config, ``docs/config.md``, made from the dataclasses whose keys it lists.

    python -m pipeline.config.reference > docs/config.md
"""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.run_config import Config, of_every_dataset
from pipeline.config.sections import NamedConfig
from pipeline.registry import known, options_of
from pipeline.values import describe

__all__ = ["reference", "texts_of_fields"]

_WIDTH = 120
_HEAD = """\
# Every key of a config

Made by `python -m pipeline.config.reference` from the dataclasses in `pipeline/config`, whose docstrings these are.

A config is TOML: `--config FILE`; without it, `configs/digits.toml`. Any key can be given on the command line as
`section.key=value`, and to `onward.train(config, "section.key=value")`. A key that there is not, or a value that it
does not take, is told before anything starts, with what was probably meant. The complete config of a run, every default
included, is `config.toml` in its folder.
"""
_NAMED = """
## Sections that name a thing

The other keys of such a section are the options of what it names: `python launch.py --list` prints them all, with what
they take and their defaults. A dotted name, `mymodule.thing`, is one of your own. To name another thing in an override
drops the options of the one before. `[rule]` and `[optimizer]` may have sections of their own for some blocks,
`[rule.blocks."0-3"]`: see [blocks](blocks.md).
"""
_PACKAGES = {"model": "pipeline.models", "dataset": "pipeline.datasets", "rule": "pipeline.rules"}
_UNBOUNDED = (", at most 2147483647", ", at most 9223372036854775807", ", at most 1e30")


def reference() -> str:
    """The page, in Markdown."""
    config, hints = Config(), typing.get_type_hints(Config, include_extras=True)
    texts = texts_of_fields(Config)
    plain, named, sections = list[str](), list[str](), list[str]()
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if isinstance(value, NamedConfig):
            named.append(_named(field.name, value))
        elif dataclasses.is_dataclass(value):
            about = _plain(inspect.getdoc(type(value)) or "")
            sections += [f"\n## `[{field.name}]`\n", _paragraphs(about), *_keys(field.name, value)]
        else:
            plain.append(_key(field.name, value, hints[field.name], texts))
    return "\n".join([_HEAD, *plain, _NAMED, *named, *sections]) + "\n"


def _named(section: str, default: NamedConfig) -> str:
    """The name in a section whose other keys depend on it."""
    names = f"- **`{section}.name`** = `{_toml(default.name)}`"
    if section in _PACKAGES:
        names += f": {', '.join(f'`{name}`' for name in known(_PACKAGES[section]))}"
    shared = options_of(of_every_dataset).values() if section == "dataset" else ()
    about = (inspect.getdoc(of_every_dataset) or "").partition(": ")[2]
    return "\n".join([_item(names + "."), *(
        _item(f"- `{section}.{option.name}`, of every data set: {about} {describe(option.annotation).capitalize()}; "
              f"`{_toml(option.default)}`: none.") for option in shared
    )])  # fmt: skip


def _keys(section: str, values: Any) -> Iterator[str]:
    """The keys of a section, an item each."""
    texts, hints = texts_of_fields(type(values)), typing.get_type_hints(type(values), include_extras=True)
    for field in dataclasses.fields(values):
        yield _key(f"{section}.{field.name}", getattr(values, field.name), hints[field.name], texts)


def _key(name: str, default: Any, annotation: Any, texts: Mapping[str, str]) -> str:
    """A key: its default, what it takes, what it means."""
    takes = describe(annotation)
    for bound in _UNBOUNDED:
        takes = takes.replace(bound, "")
    text = _plain(texts.get(name.rpartition(".")[2], ""))
    return _item(f"- **`{name}`** = `{_toml(default)}` ({takes}). {text}".rstrip())


def texts_of_fields(kind: type) -> dict[str, str]:
    """The docstrings that stand below the fields of a dataclass, by field."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        node.target.id: inspect.cleandoc(text.value.value)
        for node, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }  # fmt: skip


def _plain(text: str) -> str:
    """A docstring as Markdown: roles are code."""
    return re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`~?([^`]+)`", r"``\1``", text))


def _toml(value: Any) -> str:
    """A default as a config would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _item(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _paragraphs(text: str) -> str:
    parts = [textwrap.fill(part, _WIDTH, break_long_words=False, break_on_hyphens=False) for part in text.split("\n\n")]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
