"""How fast the machine is at this moment, by products of one size: a prediction is worth what it was when it was made.

On shared machines the same work takes 10 or 20 % more or less time a minute later. A probe before and after tells how
much of an error may be that; it corrects nothing.
"""

import statistics
import time
from dataclasses import dataclass, field

import torch

__all__ = ["Probe", "drift"]

_SIZE = 512
_SECONDS = 0.15
_LEAST_PRODUCTS = 5


@dataclass
class Probe:
    """Products of two square matrices over all cores.

    Args:
        cores: compute threads.
        seconds: that a look takes, about.
    """

    cores: int
    seconds: float = _SECONDS
    found: list[float] = field(default_factory=list)
    """Of every look, in order: floating-point operations per second."""

    def look(self) -> float:
        """Floating-point operations per second of the median product."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.cores)
        try:
            self.found.append(2 * _SIZE**3 / self._product_s())
        finally:
            torch.set_num_threads(threads)
        return self.found[-1]

    def _product_s(self) -> float:
        """Seconds of the median product; the first one does not count."""
        a, b = torch.ones(_SIZE, _SIZE), torch.ones(_SIZE, _SIZE)
        torch.mm(a, b)
        spent: list[float] = []
        while len(spent) < _LEAST_PRODUCTS or sum(spent) < self.seconds:
            begun = time.perf_counter()
            torch.mm(a, b)
            spent.append(time.perf_counter() - begun)
        return statistics.median(spent)


def drift(before: float, between: float, after: float) -> float:
    """How much faster the machine was in the second of two spans than in the first, from the looks around them.

    Args:
        before: the look before the first span; operations per second, as the others.
        between: that between both.
        after: that after the second.
    """
    return (between + after) / (before + between) - 1
