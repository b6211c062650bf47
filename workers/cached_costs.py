"""Cost of each block on this machine, from the cache where it was measured before."""

import torch

from pipeline.planning.block_costs import block_seconds
from pipeline.resolve import RunSpec
from workers import cost_cache

__all__ = ["block_costs", "forget_costs"]

KIND = "blocks"
"""Prefix of the cost cache's files."""


def block_costs(resolved: RunSpec, threads: int, device: torch.device) -> list[float]:
    """Seconds of one training step of each block at the run's micro-batch size.

    Args:
        resolved: the run.
        threads: compute threads that a stage will have.
        device: where its stages will run.
    """
    if not cost_cache.is_cacheable(resolved):
        return block_seconds(resolved, threads, device)
    key = cost_cache.conditions(resolved, threads, device)
    found = cost_cache.recall(KIND, key)
    if _fits(found, resolved.num_blocks):
        return [float(seconds) for seconds in found]
    costs = block_seconds(resolved, threads, device)
    cost_cache.keep(KIND, key, costs)
    return costs


def forget_costs(resolved: RunSpec, threads: int, device: torch.device) -> None:
    """Remove the costs of a run's blocks from the cache, so that they are measured again next time."""
    cost_cache.forget(KIND, cost_cache.conditions(resolved, threads, device))


def _fits(found: object, num_blocks: int) -> bool:
    """Whether ``found`` is a list with a time for each block."""
    return (
        isinstance(found, list) and len(found) == num_blocks
        and all(isinstance(s, float) and 0 < s < float("inf") for s in found)
    )  # fmt: skip
