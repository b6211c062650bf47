"""Modules on torch's meta device, for the blocks and shapes of a network without allocating it."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from pipeline.numerics.seeds import seeded

__all__ = ["skeleton"]

T = TypeVar("T")


def skeleton(make: Callable[[], T]) -> T:
    """Call ``make`` on torch's meta device, or on the CPU where its code cannot run there.

    The random generator is left as it was.
    """
    with seeded(0):
        try:
            # Warnings of a user's code about a device without data say nothing about the run.
            with warnings.catch_warnings(action="ignore"), torch.device("meta"):
                return make()
        except Exception:
            return make()
