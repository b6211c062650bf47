"""Cache of costs measured on this machine, in small JSON files: the same run need not be measured again.

A file is named by a digest of everything that its numbers depend on, this code included, and holds that as well. A
cache that cannot be read or written is no cache: it never stops a run.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from pipeline.config.blocks import names_of
from pipeline.records.files import write_text
from pipeline.resolve import RunSpec
from workers.host.environment import ROOT, cpu_name

__all__ = ["conditions", "forget", "ignore_older", "is_cacheable", "keep", "recall"]

logger = logging.getLogger(__name__)

_CLOCK_S = 0.02
"""By which the clock of files may be behind: it moves in ticks of some milliseconds."""
_oldest = 0.0
"""What was kept before, in seconds since 1970, is not found."""

_NO_MATTER = ("stages", "device", "threads", "trace", "predict", "timeout_s", "start_timeout_s")
"""Keys of ``[run]`` that change no cost, or are part of the placement; any key added later is taken to matter."""


def is_cacheable(resolved: RunSpec) -> bool:
    """Whether Onward's own code alone decides what a run costs.

    What is behind a dotted name or in an object that was handed over may change in ways that no file name tells:
    the function it calls may be in any other file. Measuring again takes a second.
    """
    config = resolved.config
    names = (config.model.name, names_of(config.rule), config.dataset.name, config.transport.name)
    return config.model.name != "object" and not any("." in name for name in names)


def conditions(resolved: RunSpec, threads: int, device: torch.device) -> dict[str, Any]:
    """Key of the cache: everything that the cost of a block depends on.

    Args:
        resolved: the run.
        threads: compute threads of a stage.
        device: device of the stages.

    Returns:
        For JSON.
    """
    config = resolved.config.to_dict()
    return {
        **{name: config[name] for name in ("model", "rule", "optimizer")},
        "run": {name: value for name, value in config["run"].items() if name not in _NO_MATTER},
        "input": resolved.specs[0].in_shape, "outputs": resolved.data.task.out_shape,
        "frozen": sorted(resolved.frozen), "tokens": resolved.data.num_tokens,
        "labels": resolved.data.task.labels.value,
        "microbatch_size": resolved.microbatch_size, "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": cpu_name(), "cores": psutil.cpu_count(logical=False), "torch": torch.__version__, "code": code_digest(),
    }  # fmt: skip


@cache
def code_digest() -> str:
    """Digest of this code: a change of it may change what a run costs."""
    total = hashlib.sha256()
    for path in sorted([*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("workers/**/*.py")]):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def recall(kind: str, key: Mapping[str, Any]) -> Any:
    """Read the value that :func:`keep` wrote; None where there is none."""
    try:
        path = _path(kind, key)
        if path.stat().st_mtime < _oldest - _CLOCK_S:
            return None
        found = json.loads(path.read_text(encoding="utf8"))
        return found["value"] if found["key"] == json.loads(_text(key)) else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        logger.debug("nothing in the cache of %s: %s", kind, error)
        return None


def keep(kind: str, key: Mapping[str, Any], value: Any) -> None:
    """Write ``value``, whole or not at all: other runs may be reading.

    Args:
        kind: prefix of the file's name.
        key: everything that the value depends on; for JSON.
        value: for JSON.
    """
    try:
        path = _path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": json.loads(_text(key)), "value": value}, indent=1, allow_nan=False)
        write_text(path, text)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        logger.debug("nothing kept in the cache of %s: %s", kind, error)


def forget(kind: str, key: Mapping[str, Any]) -> None:
    """Remove a value that turned out to be wrong, so that it is measured again next time."""
    try:
        _path(kind, key).unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        logger.debug("nothing removed from the cache of %s: %s", kind, error)


def ignore_older() -> None:
    """From now on this process finds nothing that was kept before, and measures again: ``--fresh``."""
    global _oldest
    _oldest = time.time()


def folder() -> Path:
    """Folder of the cache: ``costs`` in ``$ONWARD_CACHE``, else ``$XDG_CACHE_HOME/onward``, else ``~/.cache/onward``.

    Raises:
        RuntimeError: there is no home.
    """
    own, general = os.environ.get("ONWARD_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else (Path(general) if general else Path.home() / ".cache") / "onward"
    return root / "costs"


def _text(key: Mapping[str, Any]) -> str:
    """``key`` as JSON, the same text for the same key."""
    return json.dumps(key, sort_keys=True, default=str)


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    """Path of the file of a value, whether or not it exists."""
    return folder() / f"{kind}-{hashlib.sha256(_text(key).encode()).hexdigest()[:24]}.json"
