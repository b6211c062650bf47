"""Times the steps of an arm that is a plain loop: warm-up, then equal windows, their median."""

import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["timed"]

WARM_S = 0.5
WARM_STEPS = 10
NUM_WINDOWS = 6
_COLD_STEPS = 3


def timed(
    step: Callable[[], object],
    *,
    amount: float,
    seconds: float,
    agree: Callable[[int], int] = lambda count: count,
    synchronise: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Median rate over equal windows of about ``seconds`` in all.

    Warm-up: three steps, in which a library makes its plans and an optimizer its state, then as many as make half a
    second or ten steps in all, whichever is first.

    Args:
        step: one optimizer step.
        amount: what a step gets done: its samples.
        seconds: to measure for.
        agree: makes all ranks take the same number of steps: returns rank 0's.
        synchronise: waits for a device.

    Returns:
        ``samples_per_s``, and ``windows`` with the rate of each.
    """

    def duration(count: int) -> float:
        synchronise()
        start = time.perf_counter()
        for _ in range(count):
            step()
        synchronise()
        return time.perf_counter() - start

    duration(_COLD_STEPS)
    steps_s = [duration(1), duration(1)]
    warm = min(WARM_STEPS - _COLD_STEPS - 2, round(WARM_S / min(steps_s)))
    steps_s += [duration(1) for _ in range(agree(warm))]
    windows, steps = plan(seconds, statistics.median(steps_s))
    windows, steps = agree(windows), agree(steps)
    rates = [amount * steps / duration(steps) for _ in range(windows)]
    return {"samples_per_s": statistics.median(rates), "windows": rates, "steps_per_window": steps}


def plan(seconds: float, step_s: float) -> tuple[int, int]:
    """Number of windows, and of steps in each, that take about ``seconds``."""
    steps = max(1, round(seconds / step_s))
    windows = min(NUM_WINDOWS, steps)
    return windows, round(steps / windows)
