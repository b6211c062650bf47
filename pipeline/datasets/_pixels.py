"""Decodes picture files, and caches their pixels.

Decoding the 60 000 pictures of a small data set takes many times as long as reading one file of their pixels, so the
pixels are kept beside the folder of the pictures, where that can be written.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from pipeline.data.pictures import opened, unclear, upright
from pipeline.errors import ConfigError, one_line

__all__ = ["load_pixels"]

_log = logging.getLogger(__name__)
_MADE_BY = b"upright"
"""Part of the key: pixels that an earlier version has made otherwise are made anew."""


def load_pixels(folder: Path, splits: Sequence[Sequence[Path]], image_size: int, channels: int) -> list[Tensor]:
    """Load the pixels of picture files, from the cache where none of them has changed.

    The cache is ``<folder>.cache/<size>x<size>x<channels>.npz``; its key is every file's path, size and time.
    Pictures are turned as their EXIF says.

    Args:
        folder: folder of all files.
        splits: the files of each split.
        image_size: edge in pixels: the shorter side is resized to it, the longer one cut to it about the centre.
        channels: 1 (grey) or 3 (colour).

    Returns:
        For each split, (files, channels, image_size, image_size) uint8.

    Raises:
        ConfigError: a file cannot be decoded, or has transparent pixels or more than 8 bits a channel.
    """
    cache = folder.parent / f"{folder.name}.cache" / f"{image_size}x{image_size}x{channels}.npz"
    key = _key(folder, splits)
    arrays = _recall(cache, key)
    if arrays is None:
        _log.info("decoding the pictures in %s, once", folder)
        arrays = [_decode(files, image_size, channels) for files in splits]
        _keep(cache, key, arrays)
    return [torch.from_numpy(array) for array in arrays]


def _decode(files: Sequence[Path], image_size: int, channels: int) -> NDArray[np.uint8]:
    pixels = np.empty((len(files), image_size, image_size, channels), dtype=np.uint8)
    for target, file in zip(pixels, files, strict=True):
        try:
            if not file.is_file():  # opening a pipe would wait for its other end
                raise OSError("it is no regular file")
            with opened(file) as image:
                given, colours = unclear(image), upright(image, channels)
        except Exception as error:  # decoders of damaged pictures raise whatever they stumble over
            reason = one_line(error)
            raise ConfigError(f"cannot read the picture {file} ({reason}). Replace or remove it.") from None
        if given is not None:
            raise ConfigError(
                f"a picture is not clear (given: {file}, {given}; expected: opaque, 8 bits a channel). Convert or "
                "remove it."
            )
        square = ImageOps.fit(colours, (image_size, image_size), Image.Resampling.BILINEAR)
        target[...] = np.asarray(square).reshape(target.shape)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _key(folder: Path, splits: Sequence[Sequence[Path]]) -> str:
    """Cache key, which changes when a file is added, removed, renamed or written."""
    digest = hashlib.blake2b(_MADE_BY, digest_size=16)
    for files in splits:
        digest.update(b"split")
        for file in files:
            facts = file.stat()
            digest.update(f"{file.relative_to(folder)}|{facts.st_size}|{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _recall(cache: Path, key: str) -> list[NDArray[np.uint8]] | None:
    """Cached pixels under ``key``; None where there are none, or the file is damaged."""
    try:
        # Opened here: np.load leaves a damaged archive open.
        if not cache.is_file():
            return None
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["key"]) != key:
                return None
            return [kept[f"arr_{i}"] for i in range(len(kept.files) - 1)]
    except Exception:  # a damaged archive raises whatever its reader stumbles over
        return None


def _keep(cache: Path, key: str, arrays: Sequence[NDArray[np.uint8]]) -> None:
    """Writes the cache under another name first, so that no process reads half of it. Failing to is no error."""
    part = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, *arrays, key=np.array(key))  # they are named arr_0, arr_1
        part.replace(cache)
    except OSError as error:
        _log.info("no cache of the decoded pictures (%s)", error)
        # Also when the disk is full: the half-written file is what fills it.
        if part.exists():
            part.unlink()
