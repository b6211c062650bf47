"""Cases of a plan: one way of training on so many stages, with its blocks laid on stages, ready to be measured."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import registry
from pipeline.config import ChaosConfig, Config
from pipeline.config.blocks import names_of
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.planning import partition
from pipeline.planning.taken import Taken
from pipeline.resolve import RunSpec, resolve
from pipeline.schedules.modes import find_mode
from pipeline.schedules.probe import Probe
from pipeline.schedules.replicas import Replicas
from workers.cached_costs import told_costs
from workers.chaos import check_chaos
from workers.job import Job, share_out
from workers.memory import check_memory
from workers.placement import Host, Placement
from workers.planner.links import Question
from workers.planner.ways import Way
from workers.transport import PACKAGE, Capabilities, Devices, Reach, capabilities_of

__all__ = ["Case", "NoRoom", "Planned", "hosts_of"]


@dataclass(frozen=True)
class Case:
    """One way of training on so many stages."""

    way: Way
    stages: int
    """Processes, where the batch is dealt to them."""
    resolved: RunSpec
    placement: Placement
    """On this machine, one device for all."""
    jobs: tuple[Job, ...]
    """What one process of each stage does, as if it were alone: of replicas, what one of them is dealt."""
    batch_size: int
    """Samples of a step, of all processes."""
    hosts: tuple[int, ...]
    """Of each stage."""
    probe: Probe | None = None
    """That passes in the mode of the config, where the case is planned in another one."""

    @property
    def partition(self) -> tuple[range, ...]:
        """Blocks of each stage."""
        return self.jobs[0].partition

    @property
    def replicas(self) -> tuple[int, ...]:
        """Of each stage."""
        return self.placement.replicas.counts


class NoRoom(ConfigError):
    """A case does not fit into the memory of a host."""


class Planned:
    """Makes cases from a config.

    Args:
        config: of the run that is planned.
        host: this machine, as every planned host is.
        data_root: where data sets are.
        question: what is to be planned.
        fresh: measure again what is in the cache.

    Raises:
        ConfigError: the run itself is refused.
    """

    def __init__(
        self, config: Config, host: Host, data_root: Path, question: Question, *, fresh: bool = False
    ) -> None:
        batch_size = resolve(config, data_root).batching.batch_size  # of a small data set all there is
        self._config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=batch_size))
        self._host = host
        self._data_root = data_root
        self._question = question
        self.transport, self.far_transport = _local_transport(config), _far_transport(config)
        self._fresh = fresh
        self._costs: dict[tuple[str, int, int], Sequence[float]] = {}
        self.taken: list[Taken] = []
        """How the blocks were measured by which the runs are cut."""
        on_cuda = host.num_gpus > 0 and config.run.device != "cpu"
        self.device = "cuda:0" if on_cuda else "cpu"

    def case(self, way: Way, stages: int, replicas: tuple[int, ...] | None = None) -> Case:
        """One case.

        Args:
            way: of training.
            stages: of the pipeline, or processes to which batches are dealt.
            replicas: of each stage; None for one each.

        Raises:
            ConfigError: the rule or the mode refuses it.
            NoRoom: it does not fit into the memory of a host like this one; of a GPU's it is not known before stages
                are measured.
        """
        resolved = resolve(self._for(way, stages, replicas), self._data_root)
        if resolved.topology is Topology.SETTLE or resolved.routes is not None:
            settles = resolved.topology is Topology.SETTLE
            what = "exchanges of several rounds" if settles else "several ways of feedback"
            raise ConfigError(
                f"{what} cannot be planned (rule: {names_of(self._config.rule)}, expected: a rule that does not "
                "settle, e.g. predsim, for all blocks). Change the rule, or run it: its first line has a prediction."
            )
        count = stages if way.is_split else 1
        counts = replicas or (1,) * count
        hosts = hosts_of(counts, self._question.hosts)
        check_chaos(resolved.config.chaos, count, sum(counts))
        threads = self._threads(stages if way.is_dealt else sum(counts))
        self._check_host(resolved, count, Replicas(counts))
        ranges, block_s = self._laid(resolved, count, threads)
        placement = Placement(ranges, (self.device,) * count, self.transport, threads, block_s)
        jobs = share_out(resolved, placement, Path("/nowhere"), self._data_root, *[Path("/nowhere")] * 2)
        jobs = [_as_replica(job, each) for job, each in zip(jobs, counts, strict=True)]
        whole = dataclasses.replace(
            placement, devices=(self.device,) * sum(counts), counts=counts if max(counts) > 1 else ()
        )
        probe = self._probe(resolved) if way.is_ours else None
        return Case(way, stages, resolved, whole, tuple(jobs), self._config.train.batch_size, hosts, probe)

    def _check_host(self, resolved: RunSpec, count: int, replicas: Replicas) -> None:
        """Refuse what does not fit, before blocks are measured, with any partition."""
        if self.device != "cpu":
            return
        even, processes = partition.balanced([1.0] * resolved.num_blocks, count), replicas.num_processes
        here = -(-processes // self._question.hosts)
        reach = capabilities_of(self.transport).reach
        try:
            check_memory(resolved, even, (self.device,) * processes, here, reach, replicas)
        except ConfigError as error:
            raise NoRoom(str(error)) from None

    def _probe(self, resolved: RunSpec) -> Probe | None:
        """Of the mode gated."""
        is_gated, gate = find_mode(self._config.schedule.mode).is_gated, self._config.gate
        return Probe.of(gate, resolved.batching) if is_gated and gate.measures else None

    def _for(self, way: Way, stages: int, replicas: tuple[int, ...] | None) -> Config:
        """The config of one case."""
        config, train = self._config, self._config.train
        if way.is_one_process:
            train = dataclasses.replace(train, microbatches=1)
            config = dataclasses.replace(config, chaos=_shared_out(config.chaos, 1.0))
        elif way.is_dealt:
            part = -(-train.batch_size // stages)
            chaos = _shared_out(config.chaos, part / train.batch_size)
            config = dataclasses.replace(config, chaos=chaos)
            train = dataclasses.replace(train, batch_size=part, microbatches=1)
        # Snapshots and measurements are no part of a plan, and neither is what a run writes. Its replicas are the
        # question's.
        return dataclasses.replace(
            config, train=train, schedule=dataclasses.replace(config.schedule, mode=way.mode),
            run=dataclasses.replace(config.run, replicas=1 if replicas is None else list(replicas)),
            measure=dataclasses.replace(config.measure, every=0), snapshot=type(config.snapshot)(),
        )  # fmt: skip

    def _threads(self, processes: int) -> int:
        """Compute threads of each of so many processes."""
        here = -(-processes // self._question.hosts)
        return self._config.run.threads or max(1, self._host.cores // here)

    def _laid(self, resolved: RunSpec, count: int, threads: int) -> tuple[tuple[range, ...], tuple[float, ...] | None]:
        """Blocks of each stage, and what each block takes where that was asked for."""
        wanted, num_blocks, chaos = resolved.config.run.partition, resolved.num_blocks, resolved.config.chaos
        if isinstance(wanted, list) and len(wanted) == count and count > 1:
            costs = self._cost(resolved, threads) if chaos.emulates_measured else None
            return tuple(partition.parse(wanted, num_blocks)), costs
        if not chaos.emulates_measured and (chaos.emulates or count in (1, num_blocks)):
            return tuple(partition.balanced([1.0] * num_blocks, count)), None
        costs = self._cost(resolved, threads)
        return tuple(partition.balanced(costs, count)), costs

    def _cost(self, resolved: RunSpec, threads: int) -> tuple[float, ...]:
        """Seconds of each block, measured once."""
        config = resolved.config
        key = (f"{names_of(config.rule)} {config.schedule.mode}", resolved.microbatch_size, threads)
        if key not in self._costs:
            self._costs[key], taken = told_costs(resolved, threads, torch.device(self.device), fresh=self._fresh)
            self.taken.append(taken)
        return tuple(self._costs[key])


def hosts_of(replicas: Sequence[int], hosts: int) -> tuple[int, ...]:
    """The host of each stage: processes are dealt to ``hosts`` in order, as many to each.

    Raises:
        ConfigError: replicas of a stage are on several, and what they exchange would pass the link.
    """
    found, first, total = [], 0, sum(replicas)
    for stage, count in enumerate(replicas):
        ends = [process * hosts // total for process in (first, first + count - 1)]
        if ends[0] != ends[1]:
            raise ConfigError(
                f"the replicas of stage {stage} would be on several hosts, and their exchange over the link is not "
                f"planned (given: --hosts {hosts}, replicas {list(replicas)}, expected: those of a stage on one host). "
                "Name others, or try the run itself."
            )
        found.append(ends[0])
        first += count
    return tuple(found)


def _as_replica(job: Job, count: int) -> Job:
    """The job of one of so many replicas: it is dealt fewer micro-batches, and adds up fewer gradients than one process
    that has them all."""
    resolved = job.resolved
    dealt = -(-resolved.batching.microbatches // count)
    batch_size = dealt * resolved.microbatch_size
    batching = dataclasses.replace(resolved.batching, batch_size=batch_size, microbatches=dealt)
    share = batch_size / resolved.batching.batch_size
    config = dataclasses.replace(resolved.config, chaos=_sooner(resolved.config.chaos, share))
    dealt_out = dataclasses.replace(resolved, batching=batching, config=config)
    return job if count == 1 else dataclasses.replace(job, resolved=dealt_out)


def _shared_out(chaos: ChaosConfig, share: float) -> ChaosConfig:
    """Emulated compute of a part of the batch in one process, which has no links and no late stages."""
    told = chaos.compute_s
    chaos = dataclasses.replace(chaos, delay_s=0.0, stage_delay_s=0.0)
    if isinstance(told, list):
        chaos = dataclasses.replace(chaos, compute_s=[sum(told)])  # one process has all stages
    return _sooner(chaos, share)


def _sooner(chaos: ChaosConfig, share: float) -> ChaosConfig:
    """Emulated compute of a part of the batch; what was measured goes by the micro-batch."""
    told = chaos.compute_s
    if isinstance(told, list):
        return dataclasses.replace(chaos, compute_s=[seconds * share for seconds in told])
    return chaos if told == "measured" else dataclasses.replace(chaos, compute_s=float(told) * share)


def _local_transport(config: Config) -> str:
    """A transport of this host whose costs can be measured: the run's own, or the one that ``auto`` would try first."""
    named = config.transport.name
    if named != "auto" and _is_measurable(named):
        return named
    names = [name for name in registry.known(PACKAGE) if _is_measurable(name)]
    return min(names, key=lambda name: capabilities_of(name).auto_order or 1000)


def _far_transport(config: Config) -> str | None:
    """The transport of edges between hosts, whose costs can be measured inside one, too: the run's own where it reaches
    that far, or the one that ``auto`` would try first; None where there is none."""
    named = config.transport.name
    names = [named] if named != "auto" and _reaches_hosts(named) else filter(_reaches_hosts, registry.known(PACKAGE))
    return min(names, key=lambda name: capabilities_of(name).auto_order or 1000, default=None)


def _reaches_hosts(name: str) -> bool:
    """By itself: a transport that joins others has their costs."""
    declared = _declared(name)
    return declared is not None and declared.reach is Reach.ANYWHERE and not declared.joins_hosts


def _is_measurable(name: str) -> bool:
    """It connects processes of this host, and is no join of others."""
    declared = _declared(name)
    return declared is not None and declared.reach is not Reach.PROCESS and not declared.joins_hosts


def _declared(name: str) -> Capabilities | None:
    """Of a transport that there is and that goes over the CPU."""
    try:
        declared = capabilities_of(name)
    except (ImportError, AttributeError):  # of a torch without torch.distributed
        return None
    return declared if Devices.CPU in declared.devices else None
