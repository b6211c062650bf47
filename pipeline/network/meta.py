"""Modules without memory, for questions about a network too large to allocate: how many blocks, which shapes."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from pipeline.numerics.seeds import seeded

__all__ = ["skeleton"]

T = TypeVar("T")


def skeleton(make: Callable[[], T]) -> T:
    """What ``make`` returns, built on torch's meta device, or on the CPU where its code cannot run there.

    Leaves the random generator as it was.
    """
    with seeded(0):
        try:
            # Whatever a user's own code does or warns of on a device without data is no news to the user.
            with warnings.catch_warnings(action="ignore"), torch.device("meta"):
                return make()
        except Exception:
            return make()
