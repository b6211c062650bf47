"""Cost of each block on this machine, from the cache where it was measured before."""

from typing import Any

import torch

from pipeline.planning.block_costs import measure_blocks
from pipeline.planning.taken import Taken
from pipeline.resolve import RunSpec
from workers import cost_cache

__all__ = ["block_costs", "forget_costs", "told_costs"]

KIND = "blocks"
"""Prefix of the cost cache's files."""


def block_costs(resolved: RunSpec, threads: int, device: torch.device) -> list[float]:
    """The seconds of :func:`told_costs`."""
    return told_costs(resolved, threads, device)[0]


def told_costs(
    resolved: RunSpec, threads: int, device: torch.device, *, fresh: bool = False
) -> tuple[list[float], Taken]:
    """Seconds of one training step of each block at the run's micro-batch size, and how they were measured.

    Args:
        resolved: the run.
        threads: compute threads that a stage will have.
        device: where its stages will run.
        fresh: measure again what is in the cache.
    """
    if not cost_cache.is_cacheable(resolved):
        return measure_blocks(resolved, threads, device)
    key = cost_cache.conditions(resolved, threads, device)
    found = None if fresh else _believed(cost_cache.recall(KIND, key), resolved.num_blocks)
    if found is not None:
        return found
    costs, taken = measure_blocks(resolved, threads, device)
    cost_cache.keep(KIND, key, {"seconds": costs, "taken": taken.to_dict()})
    return costs, taken


def forget_costs(resolved: RunSpec, threads: int, device: torch.device) -> None:
    """Remove the costs of a run's blocks from the cache, so that they are measured again next time."""
    cost_cache.forget(KIND, cost_cache.conditions(resolved, threads, device))


def _believed(found: Any, num_blocks: int) -> tuple[list[float], Taken] | None:
    """A time for each block; None where ``found`` has none, or none that is believed."""
    try:
        seconds, taken = [float(each) for each in found["seconds"]], Taken.from_dict(found["taken"])
    except (KeyError, TypeError, ValueError):
        return None
    is_whole = len(seconds) == num_blocks and all(0 < s < float("inf") for s in seconds)
    return (seconds, taken) if is_whole and taken.is_believed else None
