"""Classes of a user in int64, in which labels are kept; what has no such number is refused and not wrapped around."""

from typing import Any

import numpy as np

from pipeline.errors import ConfigError

__all__ = ["in_int64"]

_BEYOND = 2**63
"""The first number above those of int64."""


def in_int64(labels: np.ndarray[Any, Any], where: str, start: int = 0) -> np.ndarray[Any, Any]:
    """The labels in int64 and contiguous; the same array where it is already.

    Args:
        labels: (samples, ...), whole numbers of any dtype.
        where: they are, for the message: ``data.npz``.
        start: number of the first sample, for the message.

    Raises:
        ConfigError: a number is beyond int64.
    """
    if labels.dtype.kind == "f" or labels.dtype.kind == "u" and labels.dtype.itemsize == 8:
        beyond = labels >= _BEYOND
        if labels.dtype.kind == "f":
            beyond |= labels < -_BEYOND
        if beyond.any():
            place = tuple(int(i) for i in np.argwhere(beyond)[0])
            given = f"{labels[place]} in sample {start + place[0]}"
            raise ConfigError(
                f"the labels of {where} are no classes (given: {given}, expected: whole numbers from 0, of at least 2 "
                "classes). Correct them, or pass floating-point numbers to predict."
            )
    return np.ascontiguousarray(labels, dtype=np.int64)
