"""Contiguous partition of blocks into stages that minimises the cost of the most expensive stage.

A pipeline runs at the pace of its slowest stage; nothing else about a partition changes its speed as much, and
nothing at all about it changes the result.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from pipeline.errors import ConfigError

__all__ = ["balanced", "parse"]


def balanced(costs: Sequence[float], num_stages: int) -> list[range]:
    """The blocks of each stage, such that the most expensive stage costs least.

    Among the partitions with that cost the most even is taken (least sum of squared stage costs), and of those the one
    whose cuts come first.

    Args:
        costs: of each block, in any unit: parameters, or seconds per micro-batch.
        num_stages: number of ranges.

    Raises:
        ConfigError: more stages than blocks, fewer than one, or a cost that is negative or not finite.
    """
    num_blocks = len(costs)
    if not 1 <= num_stages <= num_blocks:
        move = f"Lower num_stages to at most {num_blocks}." if num_stages > 1 else "Raise num_stages to at least 1."
        raise ConfigError(
            f"cannot split {num_blocks} blocks into {num_stages} stages (blocks: {num_blocks}, num_stages: "
            f"{num_stages}). {move}"
        )
    if not all(math.isfinite(c) and c >= 0 for c in costs):
        raise ConfigError(
            f"cannot weigh blocks by these costs (given: {list(costs)}, expected: finite, at least 0). Fix the costs."
        )
    sums = list(accumulate(costs, initial=0))
    limit = _solve(sums, num_stages, lambda cost, rest: max(cost, rest), math.inf)[0]
    _, cuts = _solve(sums, num_stages, lambda cost, rest: cost * cost + rest, limit)
    return _ranges([0, *cuts])


def parse(sizes: Sequence[int], num_blocks: int) -> list[range]:
    """The blocks of each stage from how many blocks each has: ``[2, 1, 1]``.

    Raises:
        ConfigError: a stage without blocks, or the sizes do not add up to ``num_blocks``.
    """
    if not sizes or any(size < 1 for size in sizes):
        raise ConfigError(f"a stage has no blocks (given: {list(sizes)}, expected: at least 1 each). Remove it.")
    if sum(sizes) != num_blocks:
        raise ConfigError(
            f"the stages do not cover the model (given: {list(sizes)}, {sum(sizes)} blocks; expected: {num_blocks}). "
            "Change the sizes."
        )
    return _ranges(list(accumulate(sizes, initial=0)))


def _solve(
    sums: Sequence[float], num_stages: int, join: Callable[[float, float], float], limit: float
) -> tuple[float, list[int]]:
    """Dynamic programme over the tails of the network.

    Args:
        sums: cost of the blocks before each position, ``len(blocks) + 1`` of them.
        num_stages: number of ranges.
        join: the value of a first stage's cost and the value of what follows.
        limit: no stage may cost more.

    Returns:
        The least value, and where each range ends; the earliest such ends.
    """
    last = len(sums) - 1
    # best[i]: least value of the blocks from i on, in as many stages as rounds so far, and its ends.
    unreachable: tuple[float, list[int]] = (math.inf, [])
    best = [unreachable] * last + [(0.0, [])]
    for _ in range(num_stages):
        best = [
            min(
                (
                    (join(sums[end] - sums[start], best[end][0]), [end, *best[end][1]])
                    for end in range(start + 1, last + 1)
                    if sums[end] - sums[start] <= limit
                ),
                default=unreachable,
            )
            for start in range(last + 1)
        ]
    return best[0]


def _ranges(cuts: Sequence[int]) -> list[range]:
    return [range(start, stop) for start, stop in pairwise(cuts)]
