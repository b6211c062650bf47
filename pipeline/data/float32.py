"""Arrays of a user in float32, in which everything is learned; what has no such number is refused."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.errors import ConfigError

__all__ = ["in_float32"]


def in_float32(
    array: np.ndarray[Any, Any], what: str, where: Callable[[Sequence[int]], str], unit: str = "sample"
) -> np.ndarray[Any, Any]:
    """The array in float32 and contiguous; the same one where it is already.

    Args:
        array: numbers, of one dimension or more.
        what: has them, for the message, with its verb: ``x_test of data.npz has``.
        where: says in words where a number is, from its indices: ``sample 3``.
        unit: what to leave out where a number is wrong.

    Raises:
        ConfigError: a number is nan, infinite, or becomes so.
    """
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(found).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
        raise ConfigError(
            f"{what} a number that is nan, infinite or beyond float32 (given: {array[place]} in {where(place)}, "
            f"expected: at most 3.4e38). Leave that {unit} out."
        )
    return found
