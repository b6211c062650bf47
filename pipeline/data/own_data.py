"""Data that a user hands over as objects, written to a folder once: stages map its files, and no array is pickled."""

import filecmp
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from pipeline.data.own_samples import chunks_of, count_of
from pipeline.data.own_task import own_task
from pipeline.data.own_writer import OwnWriter
from pipeline.errors import ConfigError

__all__ = ["OwnData", "write_own"]

OwnData: TypeAlias = Mapping[str, Any]
"""By split, ``train``, ``test`` and perhaps ``validation``: a pair of inputs and labels, a map-style ``Dataset`` of
torch, or a table of Hugging Face ``datasets``; see :func:`pipeline.data.own_samples.chunks_of`."""

_SPLITS = ("train", "test", "validation")


def write_own(data: OwnData, beside: Path) -> dict[str, Any]:
    """Writes data to ``beside/data-<digest>``, unless they are there; returns the options of the data set ``mapped``.

    Each sample is read once, a few at a time, so what is handed over may be larger than memory.

    Raises:
        ConfigError: a split is unknown, missing or empty, samples do not fit together or are no finite numbers, or the
            folder cannot be written to.
    """
    if not isinstance(data, Mapping) or not {"train", "test"} <= {*data} <= {*_SPLITS}:
        given = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise ConfigError(
            f"data are handed over by split (given: {given or 'none'}, expected: a dictionary with train and test, and "
            "validation or not). Pass {\"train\": ..., \"test\": ...}."
        )
    try:
        beside.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".data-", dir=beside))
    except OSError as error:
        raise _no_room(beside, error) from None
    try:
        return _written(data, part)
    except OSError as error:
        raise _no_room(beside, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _written(data: OwnData, part: Path) -> dict[str, Any]:
    """Writes to ``part``, and renames it."""
    writers: dict[str, OwnWriter] = {}
    for name in (n for n in _SPLITS if n in data):
        writers[name] = OwnWriter(part, name, writers.get("train"))
        writers[name].write(chunks_of(data[name], name), count_of(data[name], name))
    own_task([torch.from_numpy(np.load(part / f"y_{name}.npy")) for name in writers], "the data")
    digests = {file: digest for writer in writers.values() for file, digest in writer.digests.items()}
    sha256 = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    num_tokens = max(writer.most_token for writer in writers.values()) + 1
    about = {"sha256": sha256, "num_tokens": num_tokens, "files": digests}
    (part / "data.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")
    folder = (part.parent / f"data-{sha256[:12]}").resolve()
    part.chmod(0o755)
    try:
        part.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        _check_alike(folder, part, digests)
    return {"path": str(folder), "sha256": sha256, "num_tokens": num_tokens}


def _check_alike(folder: Path, part: Path, files: Iterable[str]) -> None:
    """Refuses the folder of an earlier run, or of one that was faster, that has not the arrays of ``part`` any more.

    Sizes and labels are compared: to read all inputs again could take long.

    Raises:
        ConfigError: it has not.
    """
    for file in files:
        try:
            is_alike = (folder / file).stat().st_size == (part / file).stat().st_size
            is_alike = is_alike and (file.startswith("x") or filecmp.cmp(folder / file, part / file, shallow=False))
        except FileNotFoundError:
            is_alike = False
        if not is_alike:
            raise ConfigError(
                f"the folder of these data was changed (given: {folder / file}, expected: as it was written). Remove "
                "the folder: it is written anew."
            )


def _no_room(beside: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the data cannot be written beside the run (given: {beside}, {error.strerror or error}). Make room, or choose "
        "another folder for the run."
    )
