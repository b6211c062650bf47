"""Cost of each block on this machine, from the cache where it was measured before."""

from typing import Any

import torch

from pipeline.planning.block_costs import measure_blocks
from pipeline.planning.taken import Taken
from pipeline.resolve import RunSpec
from workers import cost_cache

__all__ = ["block_costs", "forget_costs"]

KIND = "blocks"
"""Prefix of the cost cache's files."""


def block_costs(resolved: RunSpec, threads: int, device: torch.device) -> list[float]:
    """Seconds of one training step of each block at the run's micro-batch size; measured again where the machine was
    busy when they were measured before.

    Args:
        resolved: the run.
        threads: compute threads that a stage will have.
        device: where its stages will run.
    """
    if not cost_cache.is_cacheable(resolved):
        return measure_blocks(resolved, threads, device)[0]
    key = cost_cache.conditions(resolved, threads, device)
    found = _believed(cost_cache.recall(KIND, key), resolved.num_blocks)
    if found is not None:
        return found
    costs, taken = measure_blocks(resolved, threads, device)
    cost_cache.keep(KIND, key, {"seconds": costs, "taken": taken.to_dict()})
    return costs


def forget_costs(resolved: RunSpec, threads: int, device: torch.device) -> None:
    """Remove the costs of a run's blocks from the cache, so that they are measured again next time."""
    cost_cache.forget(KIND, cost_cache.conditions(resolved, threads, device))


def _believed(found: Any, num_blocks: int) -> list[float] | None:
    """A time for each block; None where ``found`` has none, or none that was measured undisturbed."""
    try:
        seconds = [float(each) for each in found["seconds"]]
        if Taken.from_dict(found["taken"]).is_busy:
            return None
    except (KeyError, TypeError, ValueError):
        return None
    return seconds if len(seconds) == num_blocks and all(0 < s < float("inf") for s in seconds) else None
