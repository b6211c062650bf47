"""Dry run: the real stages and transport on synthetic data for about a second, to predict throughput and refine the
partition.

Costs of blocks measured alone do not add up to that of a stage: blocks of a stage share calls, and stages that run at
the same time share memory bandwidth, caches and clock. So the run's own programs train over its own edges for a
moment, whatever its mode. That costs the start of the processes, then at least nine batches (two to warm up, six to
measure, one before an evaluation), and beyond that a second, or a tenth of the run where that is less; up to three
times that where the first partition turns out uneven. Stages that share cores run ahead of each other until their
queues are full: there as many batches more, before those that count and behind them.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pipeline.learning.rule import Topology
from pipeline.planning import partition
from pipeline.planning.prediction import Pace, predict
from pipeline.planning.taken import Taken
from pipeline.resolve import RunSpec
from workers import cost_cache
from workers.cached_costs import forget_costs
from workers.dry_run.pace import steady_from, step_s_of, steps_ahead, taken_of, together
from workers.dry_run.runners import PATIENCE_S, OneProcess, ProcessPerStage
from workers.dry_run.stage import DryRunSpec, StageTimings
from workers.host.folders import new_folder
from workers.job import share_out
from workers.placement import Host, Placement

__all__ = ["is_crowded", "pace_key", "predict_run", "rehearse", "validate"]

logger = logging.getLogger(__name__)

Runner = Callable[[DryRunSpec], list[StageTimings]]

KIND = "pace"
"""Prefix of the cost cache's files."""
WORTH_STEPS = 30
"""Fewest steps of a run that is worth a dry run."""
STEPS = 6
"""Fewest steps that are measured."""
MEASURE_S = 1.0
"""Seconds of training steps that are measured."""
REHEARSALS = 3
"""Most rehearsals of which the median is taken: a second in which the machine did something else does not count."""
REHEARSE_S = 2.0
"""Seconds of rehearsals, behind which none begins: slow steps, of which six take longer than a third, have fewer. With
those that do not count, for they are short or stages run ahead in them, twice as long."""
SLOW_S = 10.0
"""Of two steps, above which nothing is rehearsed."""
AHEAD_S = 8.0
"""Most seconds of steps in which stages that share cores run ahead until their queues are full; none of them counts."""
EVALUATE_S = 0.2
"""Seconds of test batches that are measured."""
REFINEMENTS = 2
"""Most partitions that are tried beside the first."""
WORTH_RATIO = 0.96
"""Expected time of another partition's slowest stage, as a share of that measured now, below which it is tried."""
TOLERANCE = 0.1
"""Relative error above which a prediction is forgotten."""


def predict_run(resolved: RunSpec, placement: Placement, host: Host, data_root: Path) -> Placement:
    """Predict the speed of a run by a dry run, and refine its partition where blocks are laid out by measured costs.

    Nothing is predicted of the sequential mode, whose course depends on its losses, of stages on several hosts, which
    cannot be tried out from one, of stages with replicas, of runs of a few steps, and where the dry run failed: the
    run will tell why.

    Args:
        resolved: the run.
        placement: as it was placed.
        host: this machine.
        data_root: folder of the data sets.

    Returns:
        ``placement``, with ``predicted`` where there is a prediction, and with another partition where that was faster.
    """
    config, total = resolved.config, resolved.config.train.epochs * resolved.batching.num_steps
    if config.chaos.emulates:  # the planner says what emulated stages do
        return placement
    can_be = resolved.mode.is_predictable and host.is_alone and placement.replicas.is_single
    if not (config.run.predict and can_be) or total < WORTH_STEPS:
        return placement
    cached, key = cost_cache.is_cacheable(resolved), pace_key(resolved, placement)
    known = _recall(key, placement) if cached else None
    if known is None:
        try:
            found = _refined(resolved, placement, host.cores, data_root)
            taken = found[1].taken and _alone(found[1].taken, found[0], host.cores)
            known = found[0], replace(found[1], taken=taken)
        except TimeoutError as error:
            logger.warning("the run's speed is not predicted: %s", error)
            return placement
        except Exception as error:  # the user's own code may raise anything, and the run will report it better
            logger.debug("the dry run failed: %s", error)
            return placement
        if cached:
            sizes = [len(blocks) for blocks in known[0].partition]
            cost_cache.keep(KIND, key, {"sizes": sizes, "pace": known[1].to_dict()})
    placement, pace = known
    return replace(placement, predicted=predict(pace, resolved.batching, config.train.epochs, config.train.eval_every))


def rehearse(resolved: RunSpec, placement: Placement, cores: float, data_root: Path) -> tuple[float, Taken]:
    """Seconds from one batch to the next of a run that is placed so, and how undisturbed they were; stages may have
    replicas.

    Args:
        resolved: the run.
        placement: its processes, which are all started here.
        cores: that they may use.
        data_root: folder of the data sets.

    Raises:
        Exception: whatever a stage has raised.
        TimeoutError: a step takes too long.
    """
    tried_s, counted_s, about_s = 0.0, 0.0, REHEARSE_S / REHEARSALS
    found: list[tuple[float, Taken]] = []
    with _runner(resolved, placement, data_root) as measure:
        warm = measure(DryRunSpec(2))[-1]
        if warm.took_s > SLOW_S:
            why = f"two steps took {warm.took_s:.0f} s, expected: {SLOW_S:.0f} s at most"
            raise TimeoutError(f"the rehearsal takes too long ({why}). Set run.predict = false to try nothing.")
        ahead = _ahead(resolved, placement, cores, warm)
        num_steps = STEPS + 2 * ahead
        while len(found) < REHEARSALS and (not found or (counted_s < REHEARSE_S and tried_s < 2 * REHEARSE_S)):
            steady = steady_from(num_steps, ahead)
            timings = measure(DryRunSpec(num_steps, steady=steady))
            tried_s += (took := timings[-1].took_s)
            # A stage that has run ahead ends first, and leaves the cores to the others.
            is_together = len(together(timings, steady)) >= num_steps // 2 - ahead
            if (is_together and took >= 0.75 * about_s) or (tried_s >= REHEARSE_S and not found):
                found.append((step_s_of(timings, steady), taken_of(timings, steady)))
                counted_s += took if is_together else REHEARSE_S  # later ones would be no better
            else:
                least = 1.25 if is_together else 2.0
                num_steps = math.ceil(num_steps * min(4.0, max(least, about_s / max(took, 1e-6))))
    taken = sorted(found, key=lambda one: one[0])[(len(found) - 1) // 2][1]
    return median(step_s for step_s, _ in found), _alone(taken, placement, cores)


def validate(resolved: RunSpec, placement: Placement, samples_per_s: float) -> None:
    """Forget what was measured for a prediction that the run has missed: the machine was busy meanwhile.

    Args:
        resolved: the run.
        placement: the run's placement, with the prediction.
        samples_per_s: throughput of the run.
    """
    predicted = placement.predicted
    if predicted is not None and abs(samples_per_s / predicted.samples_per_s - 1) > TOLERANCE:
        cost_cache.forget(KIND, pace_key(resolved, placement))
        forget_costs(resolved, placement.threads, torch.device(placement.devices[0]))


def pace_key(resolved: RunSpec, placement: Placement) -> dict[str, Any]:
    """Key of the cost cache: everything that a pace depends on, but for how blocks are laid on stages."""
    batching, table = resolved.batching, resolved.config.to_dict()
    return {
        **cost_cache.conditions(resolved, placement.threads, torch.device(placement.devices[0])),
        "dataset": table["dataset"], "chaos": table["chaos"], "nonfinite": table["train"]["nonfinite"],
        "mode": resolved.config.schedule.mode,
        "devices": placement.devices, "transport": placement.transport, "depth": resolved.config.transport.depth,
        "wire": resolved.config.transport.wire, "wire_at": resolved.config.transport.wire_at,
        "batch_size": batching.batch_size, "eval_batch_size": batching.eval_batch_size,
        "microbatches": batching.microbatches, "in_flight": batching.in_flight,
    }  # fmt: skip


def _recall(key: dict[str, Any], placement: Placement) -> tuple[Placement, Pace] | None:
    """The refined placement and its pace from the cache; None where it does not hold them, or where they are not
    believed."""
    found = cost_cache.recall(KIND, key)
    try:
        ranges = tuple(partition.parse(found["sizes"], placement.partition[-1].stop))
        if len(ranges) != placement.num_stages or (placement.block_s is None and ranges != placement.partition):
            return None
        pace = Pace.from_dict(found["pace"])
        if pace.taken is not None and not pace.taken.is_believed:
            return None
        return (replace(placement, partition=ranges), pace) if len(pace.stage_s) == len(ranges) else None
    except (KeyError, TypeError, ValueError):
        return None


def _refined(resolved: RunSpec, placement: Placement, cores: float, data_root: Path) -> tuple[Placement, Pace]:
    """Dry run of ``placement``, then of better balanced partitions; returns the fastest placement and its pace."""
    pace = _dry_run(resolved, placement, cores, data_root)
    for _ in range(REFINEMENTS):
        other = _rebalanced(placement, pace) if _overlaps(resolved, placement) else placement
        if other == placement:
            break
        attempt = _dry_run(resolved, other, cores, data_root)
        if attempt.step_s >= pace.step_s:
            break
        placement, pace = other, attempt
    return placement, pace


def _overlaps(resolved: RunSpec, placement: Placement) -> bool:
    """Whether stages work at the same time, so that the slowest sets the pace."""
    batching = resolved.batching
    most = batching.in_flight_at(0, placement.num_stages) * batching.microbatches
    waits = resolved.topology is not Topology.LOCAL and most == 1
    return not placement.in_one_process and not waits


def _rebalanced(placement: Placement, pace: Pace) -> Placement:
    """``placement`` with the partition that balances the times measured of the stages, if that is worth a dry run.

    The time of a stage is divided among its blocks in proportion to what they cost alone.
    """
    if placement.block_s is None:
        return placement
    costs: list[float] = []
    for blocks, seconds in zip(placement.partition, pace.stage_s, strict=True):
        alone = placement.block_s[blocks.start : blocks.stop]
        costs += [cost * seconds / sum(alone) for cost in alone]
    ranges = tuple(partition.balanced(costs, placement.num_stages))
    slowest = max(sum(costs[blocks.start : blocks.stop]) for blocks in ranges)
    return replace(placement, partition=ranges) if slowest < WORTH_RATIO * max(pace.stage_s) else placement


def _dry_run(resolved: RunSpec, placement: Placement, cores: float, data_root: Path) -> Pace:
    """Measure the pace of ``placement`` with its own stages, devices and transport."""
    with _runner(resolved, placement, data_root) as measure:
        return _pace(measure, resolved, placement, cores)


@contextmanager
def _runner(resolved: RunSpec, placement: Placement, data_root: Path) -> Iterator[Runner]:
    """What runs a spec in every process of ``placement``."""
    folder = new_folder()
    jobs = share_out(_with_short_waits(resolved, placement), placement, folder, data_root, folder, folder)
    try:
        with OneProcess(jobs) if placement.in_one_process else ProcessPerStage(jobs) as runner:
            yield runner.measure
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_crowded(placement: Placement, cores: float) -> bool:
    """The processes of a placement have more threads than there are cores, and take turns."""
    return not placement.in_one_process and len(placement.devices) * placement.threads > cores


def _alone(taken: Taken, placement: Placement, cores: float) -> Taken:
    """What tells nothing of other programs where processes share cores among themselves."""
    return replace(taken, share=None) if is_crowded(placement, cores) else taken


def _with_short_waits(resolved: RunSpec, placement: Placement) -> RunSpec:
    """The run with short time limits; within one process also with stages that take turns at every batch."""
    config = resolved.config
    run = replace(config.run, timeout_s=min(config.run.timeout_s, PATIENCE_S / 2), start_timeout_s=PATIENCE_S / 2)
    transport = replace(config.transport, depth=1) if placement.in_one_process else config.transport
    return replace(resolved, config=replace(config, run=run, transport=transport))


def _ahead(resolved: RunSpec, placement: Placement, cores: float, warm: StageTimings) -> int:
    """Steps by which stages that share cores run ahead, as far as twice as many are done in ``AHEAD_S``."""
    if placement.devices[0] != "cpu" or not is_crowded(placement, cores):
        return 0
    return steps_ahead(resolved, placement.num_stages, int(AHEAD_S / _about_s(warm)) - STEPS)


def _about_s(warm: StageTimings) -> float:
    """Seconds of the second of two steps."""
    return max(warm.steps[1] - warm.steps[0], 1e-6)


def _pace(measure: Runner, resolved: RunSpec, placement: Placement, cores: float) -> Pace:
    """Warm up, measure training steps, measure test batches."""
    config, batching = resolved.config, resolved.batching
    warm = measure(DryRunSpec(2))[-1]
    ahead = _ahead(resolved, placement, cores, warm)
    most = max(STEPS, config.train.epochs * batching.num_steps // 10)
    num_steps = min(max(int(MEASURE_S / _about_s(warm)), STEPS + 2 * ahead), most)
    num_steps, ahead = max(STEPS, num_steps), min(ahead, (most - STEPS) // 2)
    steady = steady_from(num_steps, ahead)
    timings = measure(DryRunSpec(num_steps, steady=steady))
    step_s, taken = step_s_of(timings, steady), taken_of(timings, steady)
    if placement.devices[-1] != "cpu":  # the host's clock alone tells when work was started, not when it was done
        num_steps = min(num_steps, 10)
        timings = measure(DryRunSpec(num_steps, waits_for_device=True))
    stage_s = tuple(stage.work_s / num_steps for stage in timings)
    num_evals = max(1, min(int(EVALUATE_S / step_s), batching.num_eval_batches))
    last = measure(DryRunSpec(1, num_evals))[-1]
    return Pace(stage_s, warm.steps[0] - warm.begun, step_s, (last.evals[-1] - last.steps[-1]) / num_evals, taken)
