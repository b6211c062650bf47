"""``launch.py --report RUN...``: one page about runs, that opens from disk."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.records.files import whole_file
from workers.host.out_folder import unusable
from workers.report.sources import read_sources

__all__ = ["FILE", "write_report"]

FILE = "report.html"


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Writes ``report.html`` about the runs in some folders.

    Args:
        folders: of runs, or of comparisons and sweeps.
        out: the folder that it is written to; an older report in it is replaced.

    Returns:
        The file.

    Raises:
        ConfigError: a library is missing, a folder is no run's, or the file cannot be written.
    """
    _check_libraries()
    from workers.report.page import GENERATOR, page  # which imports matplotlib

    target = out / FILE
    _check_is_ours(target, GENERATOR)
    text = page(read_sources(folders))
    try:
        with whole_file(target) as part:
            part.write_bytes(text.encode("utf8", "replace"))
    except OSError as error:
        raise unusable(out, error) from None
    return target


def _check_libraries() -> None:
    """Raises ConfigError where a report's libraries are not installed."""
    for name in ("matplotlib", "jinja2"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"a report needs {name} (given: {error}; expected: it is installed). Install it: pip install "
                "'onward-pipeline[report]'."
            ) from None


def _check_is_ours(target: Path, generator: str) -> None:
    """Raises ConfigError where another file of that name is in the way."""
    try:
        head = target.read_bytes()[:4096] if target.exists() else None
    except (OSError, ValueError) as error:
        raise unusable(target.parent, error) from None
    if head is not None and generator.encode() not in head:
        raise ConfigError(
            f"another file is in the way (given: {target}, expected: none, or a report of ours). Choose another --out."
        )
