"""Files that are there whole or not at all: a script may be looking while a run writes them."""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["flush_folder", "jsonable", "whole_file", "write_json"]


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` when the body ends, and goes when it fails.

    Args:
        path: of the file.
        durable: it and its name are on the disk when this ends, and survive a loss of power.
    """
    # Two writers of the same file, also on two hosts that share the folder, must not write to the same part.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        if durable:
            _flush(part)
        os.replace(part, path)
        if durable:
            flush_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Has the names in a folder written to the disk."""
    _flush(folder)


def _flush(path: Path) -> None:
    """Has a file or a folder written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Writes ``table`` to ``path``, whole; see :func:`jsonable`."""
    with whole_file(path) as part:
        part.write_text(json.dumps(jsonable(table), indent=1, allow_nan=False) + "\n", encoding="utf8")


def jsonable(value: Any) -> Any:
    """``value`` with None where a number is not finite: JSON has no word for it, and strict readers refuse ``NaN``."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
