"""Writes the two arrays of a split to ``.npy`` files, checked and digested on the way."""

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pipeline.data.float32 import in_float32
from pipeline.data.int64 import in_int64
from pipeline.data.own_samples import Array, Chunk
from pipeline.errors import ConfigError

__all__ = ["OwnWriter"]


class OwnWriter:
    """The files ``x_<name>.npy`` and ``y_<name>.npy``.

    Args:
        folder: for the files.
        name: of the split.
        like: the writer of the training split, which has written, whose samples those of this one must be like; None
            of that itself.
    """

    def __init__(self, folder: Path, name: str, like: "OwnWriter | None" = None) -> None:
        self.digests: dict[str, str] = {}
        """SHA-256 of dtype, shape and bytes, by file."""
        self.most_token = -1
        """The largest of the inputs, where they are tokens; else -1."""
        self._folder, self._name = folder, name
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {} if like is None else dict(like._kinds)

    def write(self, chunks: Iterable[Chunk], count: int) -> None:
        """Writes all samples.

        Args:
            chunks: of them, in their order.
            count: of the samples.

        Raises:
            ConfigError: samples are not like the first one, or no finite numbers of the dtypes that can be learned
                from.
            OSError: the disk refuses.
        """
        hashes = {kind: hashlib.sha256() for kind in "xy"}
        start = 0
        with ExitStack() as stack:  # written and not mapped: where the disk is full, a mapped page ends the process
            files = {k: stack.enter_context((self._folder / f"{k}_{self._name}.npy").open("wb")) for k in "xy"}
            for chunk in chunks:
                for kind, given in zip("xy", chunk, strict=True):
                    array = np.ascontiguousarray(self._checked(kind, given, start))
                    if start == 0:
                        shape, descr = (count, *array.shape[1:]), np.lib.format.dtype_to_descr(array.dtype)
                        header = {"descr": descr, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(files[kind], header)
                        hashes[kind].update(f"{array.dtype.str} {shape}\n".encode())
                    files[kind].write(array.data)
                    hashes[kind].update(array.data)
                start += len(chunk[0])
        for kind, found in hashes.items():
            self.digests[f"{kind}_{self._name}.npy"] = found.hexdigest()

    def _checked(self, kind: str, array: Array, start: int) -> Array:
        """The same samples in the dtype in which they are written. Args: start, place of the first one."""
        array = self._converted(kind, array, start)
        known = self._kinds.setdefault(kind, (array.dtype, array.shape[1:]))
        if known != (array.dtype, array.shape[1:]):
            raise ConfigError(
                f"the {self._name} {_noun(kind)} differ from the others (given: {array.dtype} of shape "
                f"{array.shape[1:]}, expected: {known[0]} of {known[1]} as the first ones). Correct them."
            )
        if kind == "x" and array.dtype.kind == "i":
            if array.min() < 0:
                raise ConfigError(
                    f"the {self._name} inputs are whole numbers, which are tokens, and one is below 0 (given: "
                    f"{array.min()}, expected: from 0, or floating-point numbers). Convert them."
                )
            self.most_token = max(self.most_token, int(array.max()))
        return array

    def _converted(self, kind: str, array: Array, start: int) -> Array:
        """float32, bytes of pixels or int64."""
        if array.dtype.kind == "f":
            what = f"the {self._name} {_noun(kind)} have"
            return in_float32(array, what, lambda at: f"sample {start + at[0]}")
        if array.dtype == np.int64 or kind == "y" and array.dtype.kind in "iu":
            return in_int64(array, f"the {self._name} data", start)
        if kind == "x" and array.dtype == np.uint8:
            return array
        expected = (
            "floating-point numbers, bytes of pixels (uint8), or tokens (int64)" if kind == "x"
            else "whole numbers of classes from 0, or floating-point numbers"
        )  # fmt: skip
        raise ConfigError(
            f"the {self._name} {_noun(kind)} have another dtype (given: {array.dtype}, expected: {expected}). Convert "
            "them."
        )


def _noun(kind: str) -> str:
    return "inputs" if kind == "x" else "labels"
