"""Profiles of the stages of planned runs: measured in processes of their own, once alone and once beside as many of
their kind as have cores, and kept in the cost cache."""

import dataclasses
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from typing import Any

import torch

from pipeline.engine.wires import wires_of
from pipeline.errors import ConfigError, one_line
from pipeline.learning.rule import Topology
from pipeline.planning.roles import role_of
from pipeline.planning.stage_model import Part
from pipeline.planning.taken import Taken
from pipeline.resolve import RunSpec
from workers import cost_cache
from workers.host.allocator import keep_freed_memory
from workers.host.fork_server import process_context, warm_up
from workers.host.parent import die_with_parent, end_with_starter
from workers.job import Job
from workers.planner.lone_stage import StageProfile, measure_stage
from workers.planner.wire_costs import WireCosts, measure_wires

__all__ = ["Measured", "Profiles", "Told", "stage_key"]

KIND, WIRES = "stages", "wires"
"""Prefixes of the cost cache's files."""
PATIENCE_S = 300.0
"""For the measurement of one stage."""

Told = tuple[tuple[tuple[int, ...], torch.dtype], ...]
_Item = tuple[str, Job, str | Told]
"""A stage to be measured: its key, its job, and the feedback that it hears or the key of the stage that tells it."""


@dataclass(frozen=True)
class Measured:
    """A stage alone, and how much longer it takes beside others of its kind."""

    profile: StageProfile
    slowdown: float
    """Of each of ``together`` that work at the same time."""
    together: int = 2
    """1: it was measured alone, and is slowed by nobody."""

    def slowdown_of(self, most: float) -> float:
        """That of each of ``most``: every other one that works adds as much as every other one added."""
        if min(most, self.together) <= 1 or most == math.inf:
            return 1.0
        return 1.0 + (self.slowdown - 1.0) * (most - 1) / (self.together - 1)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        profile = self.profile
        return {
            "parts": {part.value: seconds for part, seconds in profile.parts.items()},
            "bytes": [profile.parameter_bytes, profile.optimizer_bytes, profile.held_bytes, profile.passed_bytes],
            "told": [[list(shape), str(dtype).removeprefix("torch.")] for shape, dtype in profile.told],
            "slowdown": self.slowdown, "together": self.together, "chills": [list(pair) for pair in profile.chills],
            "taken": None if profile.taken is None else profile.taken.to_dict(),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Measured":
        """From :meth:`to_dict`'s table. Raises KeyError, TypeError or ValueError where it is none."""
        parts = {Part(name): float(seconds) for name, seconds in table["parts"].items()}
        told = tuple((tuple(int(n) for n in shape), getattr(torch, name)) for shape, name in table["told"])
        parameters, optimizer, held, passed = (int(n) for n in table["bytes"])
        taken = None if table["taken"] is None else Taken.from_dict(table["taken"])
        chills = tuple((float(waited), float(seconds)) for waited, seconds in table["chills"])
        profile = StageProfile(parts, parameters, optimizer, held, told, taken, chills, passed)
        return cls(profile, float(table["slowdown"]), int(table["together"]))


def stage_key(job: Job) -> dict[str, Any]:
    """Everything that the profile of a stage depends on: stages with the same key need be measured once."""
    resolved, batching = job.resolved, job.resolved.batching
    device, config = torch.device(job.endpoint.device), job.resolved.config.to_dict()
    blocks = [
        [blueprint.name, resolved.specs[k].in_shape, resolved.specs[k].body_shape, resolved.specs[k].out_shape,
         resolved.specs[k].is_last]
        for k, blueprint in zip(job.blocks, job.blueprints, strict=True)
    ]  # fmt: skip
    role = role_of(resolved.topology, job.partition, job.stage_index, learns_at_once=resolved.learns_at_once)
    chaos, emulated = resolved.config.chaos, None
    if chaos.emulates:  # what is late is no part of the measurement
        one_for_all = isinstance(chaos.compute_s, float | int)
        emulated = [chaos.compute_s] if one_for_all else [chaos.compute_s, job.stage_index, job.block_s]
    order = getattr(batching.order, "__name__", str(batching.order))
    place = order == "one_f_one_b" or batching.in_flight_by_stage
    wires, start = wires_of(resolved), job.blocks.start
    cuts = [k - start for k in range(start, job.blocks.stop + 1) if wires is not None and k in wires.cuts]
    return {
        **cost_cache.conditions(resolved, job.threads, device), "blocks": blocks, "role": dataclasses.asdict(role),
        "dataset": config["dataset"] if not role.has_below else None, "order": order,
        "place": [job.stage_index, job.num_stages] if place else None, "emulated": emulated,
        "wire": [wires.wire, cuts] if wires is not None and cuts else None, "nonfinite": config["train"]["nonfinite"],
        "batch": [batching.batch_size, batching.microbatches, batching.in_flight],
    }  # fmt: skip


class Profiles:
    """Profiles by stage, from the cache or measured; and the costs of messages.

    Args:
        processes: that work at the same time at most, as there are stages; a stage is measured beside no more of its
            kind than have cores of their own, and beside none where it has a device.
        cores: of this host.
        fresh: measure again what is in the cache.
    """

    def __init__(self, processes: int, cores: int, *, fresh: bool = False) -> None:
        self._processes = max(2, min(processes, cores))
        self._cores = cores
        self._fresh = fresh
        self._wires_taken: list[Taken] = []
        self._known: dict[str, Measured] = {}

    def learn(self, runs: Sequence[Sequence[Job]]) -> None:
        """Has a profile for every stage of these runs.

        Args:
            runs: the jobs of all stages of each, in order.
        """
        missing = [item for jobs in runs for item in self._missing(jobs)]
        if not missing:
            return
        with self._pool(missing[0][1].resolved) as pool:
            # A process is slow until it has done something, and so is what runs beside it meanwhile.
            warm = [pool.submit(_measure_all, missing[:1], False) for _ in range(self._processes)]
            deque((f.result(PATIENCE_S) for f in warm), maxlen=0)
            alone = pool.submit(_measure_all, missing, True).result(PATIENCE_S * len(missing))
            busy = self._beside_others(pool, missing, alone)
        for key, job, _ in missing:
            beside = busy.get(key)
            slowdown = 1.0 if beside is None else max(1.0, _seconds(beside) / max(_seconds(alone[key]), 1e-9))
            self._known[key] = Measured(_worse(alone[key], beside), slowdown, self._together(job))
            if cost_cache.is_cacheable(job.resolved):
                cost_cache.keep(KIND, stage_key(job), self._known[key].to_dict())

    def _together(self, job: Job) -> int:
        """How many of a stage's processes work at the same time, each on cores of its own; 1 where it is on a device,
        or sleeps."""
        is_alone = job.endpoint.device != "cpu" or job.resolved.config.chaos.emulates
        return 1 if is_alone else max(1, min(self._processes, self._cores // job.threads))

    def _beside_others(
        self, pool: ProcessPoolExecutor, missing: Sequence[_Item], alone: Mapping[str, StageProfile]
    ) -> dict[str, StageProfile]:
        """The stages once more, each beside others of its kind; those that are never beside one are left out."""
        found: dict[str, StageProfile] = {}
        for count in sorted({self._together(job) for _, job, _ in missing} - {1}):
            some = [
                (key, job, alone[told].told if isinstance(told, str) else told)
                for key, job, told in missing if self._together(job) == count
            ]  # fmt: skip
            at_work = [pool.submit(_measure_all, some, False) for _ in range(count)]
            every = [each.result(PATIENCE_S * len(some)) for each in at_work]
            found.update({key: max((each[key] for each in every), key=_seconds) for key, _, _ in some})
        return found

    def of(self, job: Job) -> Measured:
        """The profile of a stage that :meth:`learn` has been shown."""
        return self._known[_text(stage_key(job))]

    def wires(self, resolved: RunSpec, transport: str) -> WireCosts:
        """What messages cost over ``transport``, which connects processes of this host."""
        key = {"transport": transport, **cost_cache.conditions(resolved, 1, torch.device("cpu"))}
        key = {name: key[name] for name in ("transport", "cpu", "cores", "torch", "code")}
        found = None if self._fresh else cost_cache.recall(WIRES, key)
        costs = _known_wires(found)
        if costs is None:
            with self._pool(resolved) as pool:
                costs = measure_wires(transport, pool)
            cost_cache.keep(WIRES, key, costs.to_dict())
        if costs.taken is not None:
            self._wires_taken.append(costs.taken)
        return costs

    @property
    def taken(self) -> Taken | None:
        """How old and how disturbed everything is that is known: the oldest and the most disturbed of it."""
        every = [measured.profile.taken for measured in self._known.values()]
        return Taken.together(each for each in [*every, *self._wires_taken] if each is not None)

    def _missing(self, jobs: Sequence[Job]) -> Iterator[_Item]:
        """Stages of a run that are not known, from the last down."""
        for stage in reversed(range(len(jobs))):
            job, key = jobs[stage], stage_key(jobs[stage])
            text = _text(key)
            if text in self._known:
                continue
            resolved = job.resolved
            role = role_of(resolved.topology, job.partition, stage, learns_at_once=resolved.learns_at_once)
            teller = None
            if role.hears:
                teller = _text(stage_key(jobs[stage + 1] if job.resolved.topology is Topology.NEIGHBOUR else jobs[-1]))
            found = None
            if not self._fresh and cost_cache.is_cacheable(job.resolved):
                found = cost_cache.recall(KIND, key)
            measured = _known_stage(found)
            if measured is not None and measured.together >= min(2, self._together(job)):
                self._known[text] = measured
            else:
                yield text, job, self._known[teller].profile.told if teller in self._known else teller or ()

    @contextmanager
    def _pool(self, resolved: RunSpec) -> Iterator[ProcessPoolExecutor]:
        """Processes that measure. Raises ConfigError: the stages are too slow or too large for this machine."""
        warm_up(resolved.config.dataset.name)
        others = set(active_children())
        pool = ProcessPoolExecutor(self._processes, process_context(), _begin)
        try:
            yield pool
        except TimeoutError:
            for process in set(active_children()) - others:
                process.terminate()  # or its work would be waited for
            raise ConfigError(
                f"the stages are too slow to be measured (given: more than {PATIENCE_S:.0f} s for one, expected: less)."
                " Plan with a smaller train.batch_size, or more --stages."
            ) from None
        except (BrokenProcessPool, torch.OutOfMemoryError) as error:
            raise ConfigError(
                f"the stages are too large to be measured ({type(error).__name__}: {one_line(error)}). Plan with a "
                "smaller train.batch_size, or more --stages."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """First of all in a process that measures. It waits for work on a pipe that it holds itself, whose end it would
    never see."""
    die_with_parent()
    end_with_starter()
    keep_freed_memory()


def _known_stage(found: Any) -> Measured | None:
    """What the cache holds of a stage; None where that is nothing, or is not believed."""
    try:
        measured = Measured.from_dict(found or {})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return None if measured.profile.taken is not None and not measured.profile.taken.is_believed else measured


def _known_wires(found: Any) -> WireCosts | None:
    """The same of messages."""
    try:
        costs = WireCosts.from_dict(found or {})
    except (KeyError, TypeError, ValueError):
        return None
    return None if costs.taken is not None and not costs.taken.is_believed else costs


def _worse(alone: StageProfile, busy: StageProfile | None) -> StageProfile:
    """The profile of a stage alone, as disturbed as the worse of both measurements; without another, its own."""
    both = [each.taken for each in (alone, busy) if each is not None and each.taken is not None]
    return dataclasses.replace(alone, taken=Taken.together(both))


def _seconds(profile: StageProfile) -> float:
    """All parts of a stage once."""
    return sum(profile.parts.values())


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True, default=str)


def _measure_all(missing: Sequence[_Item], waits: bool) -> dict[str, StageProfile]:
    """Measures stages one after another, in a process of its own. Args: waits, also what they cost."""
    found: dict[str, StageProfile] = {}
    for key, job, told in missing:
        if key not in found:
            found[key] = measure_stage(job, found[told].told if isinstance(told, str) else told, waits=waits)
    return found
