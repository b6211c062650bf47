"""Files that are there whole or not at all: a script may be looking while a run writes them.

A run's files are written through :func:`whole_file` or a :class:`pipeline.records.row_file.RowFile`, and those of
snapshots by their writer; tests put in a disk that is full, read-only or broken at these places.
"""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["flush", "jsonable", "reason", "whole_file", "write_json", "write_text"]


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it becomes ``path`` when the body ends, and goes when it fails.

    Args:
        path: of the file.
        durable: it and its name are on the disk when this ends, and survive a loss of power.

    Raises:
        OSError: the disk is full, read-only or broken; ``path`` is what it was before.
    """
    # Two writers of the same file, also on two hosts that share the folder, must not write to the same part.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _create(part)
        yield part
        if durable:
            flush(part)
        _publish(part, path)
        if durable:
            flush(path.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _create(part: Path) -> None:
    """An empty file, and the folders on the way: what cannot be written at all is known before it is made."""
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch(exist_ok=False)


def _publish(part: Path, path: Path) -> None:
    """The written file takes its place."""
    os.replace(part, path)


def flush(path: Path) -> None:
    """Has a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Writes ``table`` to ``path``, whole; see :func:`jsonable`."""
    write_text(path, json.dumps(jsonable(table), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` to ``path``, whole."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf8")


def reason(error: OSError) -> str:
    """What the system says of a disk: ``No space left on device``."""
    return error.strerror or str(error) or type(error).__name__


def jsonable(value: Any) -> Any:
    """``value`` with None where a number is not finite: JSON has no word for it, and strict readers refuse ``NaN``."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
