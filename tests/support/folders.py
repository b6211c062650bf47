"""Temporary folders with short paths."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

__all__ = ["short_folder"]


@contextmanager
def short_folder():
    """A new folder, removed afterwards: the path of a Unix socket may have a hundred characters, and no more."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield Path(folder)
