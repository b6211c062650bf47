"""A case as a simulation: stages from their profiles, wires from what messages cost and from the link."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.engine.exchange import bucketed
from pipeline.learning.rule import Topology
from pipeline.planning.roles import role_of
from pipeline.planning.simulation import simulate
from pipeline.planning.stage_model import Outcome, Part, Port, StageModel, Wire
from workers.chaos import delay_of_edge
from workers.edges import edges_of
from workers.planner.cases import Case
from workers.planner.links import Link, Question
from workers.planner.lone_stage import StageProfile
from workers.planner.profiles import Profiles
from workers.planner.wire_costs import WireCosts
from workers.transport import Edge

__all__ = ["Model", "Setting"]

_MOST_STEPS = 400
_FLUSHED_STEPS = 6


@dataclass(frozen=True)
class Setting:
    """What surrounds the stages of every case."""

    question: Question
    cores: float
    """Of each host; infinite where every stage has a device of its own."""
    costs: WireCosts
    """Of messages inside a host."""
    depth: int
    """``transport.depth``."""
    far_costs: WireCosts | None = None
    """Of messages between hosts, their ends' work without the link; None: as inside a host."""


class Model:
    """The simulation of one case.

    Args:
        case: blocks on stages.
        profiles: of all its stages.
        setting: what surrounds them.
    """

    def __init__(self, case: Case, profiles: Profiles, setting: Setting) -> None:
        self.case = case
        self.setting = setting
        self._measured = [profiles.of(job) for job in case.jobs]
        self.num_stages = len(case.jobs)
        self.hosts = case.hosts

    def profile(self, stage: int) -> StageProfile:
        """Of one stage."""
        return self._measured[stage].profile

    def slowdown(self, stage: int) -> float:
        """Of one stage, while all cores are busy."""
        return self._measured[stage].slowdown_of(self.slots)

    @property
    def slots(self) -> float:
        """Processes of the case that compute at the same time on one host as if each were alone; no whole number where
        their threads do not divide the cores."""
        return max(1.0, self.setting.cores / self.case.jobs[0].threads)

    @property
    def steps(self) -> int:
        """Simulated steps: a few where each ends with a flush, else enough for the pipeline to be full for a while."""
        resolved = self.case.resolved
        if self.num_stages == 1 or (resolved.topology is not Topology.LOCAL and resolved.batching.in_flight == 1):
            return _FLUSHED_STEPS
        shared = self.slots < self.num_stages and not resolved.config.chaos.emulates
        # Stages that share cores do so with those that run ahead of them, until the queues are full.
        ahead = self.num_stages * min(self.setting.depth, 8) if shared else 0
        latency = self.latency_s / max(self.stage_seconds())
        late = 4 * resolved.batching.in_flight_at(0, self.num_stages) if resolved.topology is not Topology.LOCAL else 0
        # Behind the steps that fill the links there are to be enough for messages that come in bursts.
        filling = 2 * (self.num_stages + 1) * math.ceil(latency)
        return min(_MOST_STEPS, 30 + ahead + late + filling)

    @property
    def link(self) -> Link:
        """The link that is asked about; an endless one where none is."""
        return self.setting.question.link or Link()

    @property
    def latency_s(self) -> float:
        """The longest of any way between two stages, with what ``[chaos]`` adds."""
        told = self.case.resolved.config.chaos.delay_s
        return self.link.latency_s + max(told if isinstance(told, list) else [told], default=0.0)

    def stage_seconds(self) -> list[float]:
        """Work of each stage for one batch, alone and without messages."""
        batching = self.case.resolved.batching
        return [
            sum(m.profile.parts[p] for p in (Part.BEFORE, Part.AFTER, Part.LEARN)) * batching.microbatches
            / self.setting.question.device_speed / r + m.profile.parts[Part.STEP] / self.setting.question.device_speed
            for m, r in zip(self._measured, self.case.replicas, strict=True)
        ]  # fmt: skip

    def up_bytes(self, stage: int) -> int:
        """Of a micro-batch's activation that the stage sends, with its labels; a mean where they are uneven."""
        return self._mean(self._measured[stage].profile.passed_bytes)

    def down_bytes(self, stage: int) -> int:
        """Of the feedback for a micro-batch that the stage sends; a mean where they are uneven."""
        return self._mean(self._measured[stage].profile.told_bytes)

    def _mean(self, num_bytes: int) -> int:
        """Of all micro-batches, where a full one has ``num_bytes``."""
        batching = self.case.resolved.batching
        return round(num_bytes * batching.batch_size / batching.microbatches / self.case.resolved.microbatch_size)

    def lanes(self) -> dict[tuple[int, int], int]:
        """Bytes of a step on the link that a message from one stage to another takes, with those of all other messages
        on it; by sender and receiver, where a link is between them."""
        wires = {key: wire for key, wire in self._wires(self.setting.depth, None).items() if wire.lane is not None}
        total: dict[str, int] = {}
        for wire in wires.values():
            assert wire.lane is not None
            total[wire.lane] = total.get(wire.lane, 0) + wire.num_bytes * self.case.resolved.batching.microbatches
        return {(src, dst): total[wire.lane] for (src, dst, _), wire in wires.items() if wire.lane is not None}

    def simulated(self, *, depth: float | None = None, bits_per_s: float | None = None) -> Outcome:
        """The outcome; ``depth`` and ``bits_per_s`` in place of those that are asked about."""
        wires = self._wires(self.setting.depth if depth is None else depth, bits_per_s)
        return simulate(self._stages(), wires, self.slots)

    def step_s(self, *, depth: float | None = None, bits_per_s: float | None = None) -> float:
        """Seconds from one batch to the next, once the pipeline is full."""
        return self.simulated(depth=depth, bits_per_s=bits_per_s).step_s(self.steps // 2)

    def _stages(self) -> list[StageModel]:
        resolved, speed = self.case.resolved, self.setting.question.device_speed
        batching, chaos = resolved.batching, resolved.config.chaos
        found = []
        for s, (job, measured) in enumerate(zip(self.case.jobs, self._measured, strict=True)):
            actions = list(
                batching.order(
                    [batching.microbatches] * self.steps, stage_index=s, num_stages=self.num_stages,
                    in_flight=batching.in_flight_at(s, self.num_stages),
                    feedback=resolved.topology is not Topology.LOCAL,
                )
            )  # fmt: skip
            parts = {part: seconds / speed for part, seconds in measured.profile.parts.items()}
            late = chaos.stage_delay_s[s] if isinstance(chaos.stage_delay_s, list) else chaos.stage_delay_s
            parts[Part.STEP] += late
            chills = [(waited, seconds / speed) for waited, seconds in measured.profile.chills]
            found.append(
                StageModel(
                    role_of(resolved.topology, job.partition, s, learns_at_once=resolved.learns_at_once), actions,
                    parts, self.slowdown(s),
                    self.case.replicas[s], self._sync_s(s), self._sync_late_s(s), chaos.emulates, self.hosts[s],
                    chills,
                )
            )  # fmt: skip
        return found

    def _sync_s(self, stage: int) -> float:
        """Seconds of the messages in which the replicas of a stage add up their gradients: each sends the others their
        parts of every micro-batch that it is dealt, and then the sum of its own part. Their bytes are copied in what is
        measured of a replica (:mod:`workers.planner.lone_replica`)."""
        count = self.case.replicas[stage]
        if count == 1:
            return 0.0
        dealt = -(-self.case.resolved.batching.microbatches // count)
        return self._buckets(stage) * (dealt + 1) * (count - 1) * self._message_s(0, Link(), self.setting.costs)

    def _sync_late_s(self, stage: int) -> float:
        """Seconds by which ``[chaos]`` makes the replicas of a stage late: the last gradients, and then their sums."""
        told = self.case.resolved.config.chaos.delay_s
        return 2.0 * float(told) if self.case.replicas[stage] > 1 and not isinstance(told, list) else 0.0

    def _buckets(self, stage: int) -> int:
        """Messages in which the gradients of one micro-batch travel: see :mod:`pipeline.engine.exchange`."""
        resolved = self.case.resolved
        if resolved.topology is not Topology.LOCAL or resolved.config.run.learn_after == "stage":
            return 1
        sizes = {k: each.gradient_bytes for k, each in enumerate(resolved.exchanged)}
        return len(bucketed([(k,) for k in self.case.partition[stage]], sizes))

    def exchange_s(self, count: int, num_bytes: int, *, between_hosts: bool) -> float:
        """Seconds of an all-reduce in a ring of ``count`` processes."""
        far = Link(self.link.bits_per_s, self.latency_s)
        link, costs = (far, self._far_costs) if between_hosts else (Link(), self.setting.costs)
        return 2 * (count - 1) * self._message_s(num_bytes / count, link, costs)

    @property
    def _far_costs(self) -> WireCosts:
        """Of messages between hosts."""
        return self.setting.far_costs or self.setting.costs

    def _message_s(self, num_bytes: float, link: Link, costs: WireCosts) -> float:
        """Seconds of a message between two that wait for each other, all of its way."""
        ends_s = costs.send_s + costs.recv_s + costs.wake_s + num_bytes * (costs.send_byte_s + costs.recv_byte_s)
        return ends_s + num_bytes / link.bytes_per_s + link.latency_s

    def is_far(self, src: int, dst: int) -> bool:
        """The link that is asked about lies between two stages."""
        return self.setting.question.hosts == 1 or self.hosts[src] != self.hosts[dst]

    def _wires(self, depth: float, bits_per_s: float | None) -> dict[tuple[int, int, Port], Wire]:
        found: dict[tuple[int, int, Port], Wire] = {}
        resolved, top = self.case.resolved, self.num_stages - 1
        depths: Mapping[tuple[int, int], int] = {
            (e.src, e.dst): e.depth for e in edges_of(resolved, self.case.partition, max(1, int(min(depth, 10**6))))
        }
        for s in range(top):
            up = Wire(self.up_bytes(s), depth)
            found[s, s + 1, Port.PASS] = self._laid(up, s, s + 1, bits_per_s)
        if resolved.topology is Topology.LOCAL:
            return found
        for s in range(top):
            src = s + 1 if resolved.topology is Topology.NEIGHBOUR else top
            down = Wire(self.down_bytes(src), depths.get((src, s), math.inf))
            found[src, s, Port.TELL] = self._laid(down, src, s, bits_per_s)
        return found

    def _laid(self, wire: Wire, src: int, dst: int, bits_per_s: float | None) -> Wire:
        """A wire with its costs, along the link where that lies between the stages."""
        link, between_hosts = self.link, self.hosts[src] != self.hosts[dst]
        late_s = delay_of_edge(self.case.resolved.config.chaos, Edge(src, dst, 1, 0))
        costs = self._far_costs if between_hosts else self.setting.costs
        wire = replace(
            wire, send_s=costs.send_s + wire.num_bytes * costs.send_byte_s,
            recv_s=costs.recv_s + wire.num_bytes * costs.recv_byte_s, rouse_s=costs.rouse_s, wakes=costs.wakes,
            latency_s=late_s,
        )  # fmt: skip
        if not self.is_far(src, dst):
            return wire
        rate = (link if bits_per_s is None else Link(bits_per_s)).bytes_per_s
        on_hosts = self.setting.question.hosts > 1
        lane = f"host {self.hosts[src]}>{self.hosts[dst]}" if on_hosts else f"stage {src}>{dst}"
        return replace(wire, rate=rate, latency_s=link.latency_s + late_s, lane=lane)
