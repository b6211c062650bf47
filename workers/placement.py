"""Placement of a run: number of stages, their blocks and devices, the transport, compute threads."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.planning import partition
from pipeline.planning.prediction import Prediction
from pipeline.resolve import RunSpec
from pipeline.schedules.replicas import Replicas
from workers.cached_costs import block_costs
from workers.chaos import check_chaos
from workers.host.limits import check_open_files
from workers.host.resources import Host, this_host
from workers.memory import check_memory
from workers.replication import asked_for, fastest, stages_for
from workers.transport import PACKAGE, Devices, Reach, capabilities_of

__all__ = ["Host", "Placement", "needs_processes", "place", "this_host"]

logger = logging.getLogger(__name__)

_PLACES = {
    Devices.CPU: "stages on the CPU", Devices.SHARED_GPU: "stages that share a GPU",
    Devices.OWN_GPU: "stages on a GPU each",
}  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """Blocks, device and threads of every stage, and the transport between them."""

    partition: tuple[range, ...]
    """Blocks of each stage."""
    devices: tuple[str, ...]
    """Device of each process: ``cpu``, ``cuda:0``, ..."""
    transport: str
    """A name or a dotted name."""
    threads: int
    """Compute threads per process."""
    block_s: tuple[float, ...] | None = None
    """Seconds of one training step of each block alone, where these costs decided the partition."""
    predicted: Prediction | None = None
    """Predicted speed of the run, where there is a prediction."""
    counts: tuple[int, ...] = ()
    """Processes of each stage; empty where each has one."""

    @property
    def num_stages(self) -> int:
        """Number of stages of the pipeline."""
        return len(self.partition)

    @property
    def replicas(self) -> Replicas:
        """Processes of each stage."""
        return Replicas(self.counts) if self.counts else Replicas.single(self.num_stages)

    @property
    def in_one_process(self) -> bool:
        """All stages take turns in one process."""
        return capabilities_of(self.transport).reach is Reach.PROCESS

    @property
    def needs_group(self) -> bool:
        """The transport wants a process group of ``torch.distributed`` around it."""
        return capabilities_of(self.transport).needs_group


def needs_processes(wanted: str) -> bool:
    """Whether stages get processes of their own over the transport ``wanted``, as a config names it."""
    return wanted == "auto" or capabilities_of(wanted).reach is not Reach.PROCESS


def place(resolved: RunSpec, host: Host) -> Placement:
    """Lay the blocks of a run on stages.

    Raises:
        ConfigError: more stages than blocks, a device that is not there, a transport that does not fit, or more
            memory than there is.
    """
    device = _device(resolved.config.run.device, host)
    num_stages = _num_stages(resolved, host, device)
    counts = asked_for(resolved, num_stages) or _shared_out(resolved, host, device, num_stages)
    num_stages, num_processes = len(counts), sum(counts)
    most_beside = num_processes if host.num_ranks == 1 else host.most_ranks
    devices = tuple(device if device == "cpu" else f"cuda:{host.gpu_of(s)}" for s in range(num_processes))
    on_gpus = Devices.OWN_GPU if device == "cuda" and host.gives_each_a_gpu(num_processes) else Devices.SHARED_GPU
    where = Devices.CPU if device == "cpu" else on_gpus
    transport = _transport(resolved.config.transport.name, host, where, num_processes)
    reach = capabilities_of(transport).reach
    threads = resolved.config.run.threads or max(1, host.cores // (1 if reach is Reach.PROCESS else most_beside))
    if reach is not Reach.PROCESS and num_processes > 1:
        check_open_files(num_processes)
    check_chaos(resolved.config.chaos, num_stages, num_processes)
    ranges, costs = _partition(resolved, num_stages), None
    # Measuring allocates a block at a time, so a first check comes before it, with any partition.
    even = ranges or partition.balanced([1.0] * resolved.num_blocks, num_stages)
    here = [p for p in range(num_processes) if host.host_of_process(p) == host.host_of_process(0)]
    check_memory(resolved, even, devices, here, reach, Replicas(counts))
    if ranges is None or resolved.config.chaos.emulates_measured:
        costs = tuple(block_costs(resolved, threads, torch.device(devices[0])))
        ranges = ranges or partition.balanced(costs, num_stages)
    return Placement(tuple(ranges), devices, transport, threads, costs, counts=counts if max(counts) > 1 else ())


def _shared_out(resolved: RunSpec, host: Host, device: str, num_stages: int) -> tuple[int, ...]:
    """Replicas of each stage under ``auto``, by measured costs; where the number of stages is open, too, ``num_stages``
    is the most there may be."""
    most = host.num_ranks if host.num_ranks > 1 else host.num_gpus if device == "cuda" else host.cores
    run = resolved.config.run
    numbers = range(1, num_stages + 1) if run.stages == "auto" and isinstance(run.partition, str) else [num_stages]
    if num_stages == 1 or resolved.topology is Topology.SETTLE:  # nothing to compare; a block cannot be run alone
        costs = [float(shape.num_parameters) for shape in resolved.shapes]
    else:
        threads = run.threads or max(1, host.cores // most)
        costs = block_costs(resolved, threads, torch.device("cpu" if device == "cpu" else "cuda:0"))
    layouts = [_partition(resolved, n) or partition.balanced(costs, n) for n in numbers]
    return fastest(costs, layouts, max(most, min(numbers)), resolved.batching.microbatches, host.num_ranks > 1)


def _device(wanted: str, host: Host) -> Literal["cpu", "cuda"]:
    """Kind of device for all stages."""
    if wanted == "cuda" and host.num_gpus == 0:
        raise ConfigError(
            "there is no CUDA device here (run.device: cuda, expected: cpu or auto). Pass --device cpu."
        )
    if wanted == "cpu" or host.num_gpus == 0:
        return "cpu"
    if (without := next((rank for rank, names in enumerate(host.gpus) if not names), None)) is not None:
        raise ConfigError(
            f"rank {without} sees no CUDA device and rank 0 does (run.device: {wanted}, GPUs: 0 and {host.num_gpus}, "
            "expected: one at least for each rank). Pass --device cpu, or start ranks where there are GPUs."
        )
    return "cuda"


def _num_stages(resolved: RunSpec, host: Host, device: str) -> int:
    """Number of stages; that of the ranks under torchrun with several ranks."""
    wanted, num_blocks = resolved.config.run.stages, resolved.num_blocks
    if resolved.mode.is_one_stage:
        if host.num_ranks > 1:
            raise ConfigError(
                f"the mode {resolved.mode.name} is one process (ranks: {host.num_ranks}, expected: 1). "
                "Start it without --nproc-per-node, or choose gpipe or 1f1b."
            )
        return 1
    if host.num_ranks > 1:
        if resolved.config.run.replicas != 1:
            return stages_for(resolved, host.num_ranks)
        asked = num_blocks if wanted == "blocks" else wanted
        if asked not in ("auto", host.num_ranks):
            raise ConfigError(
                f"torchrun gives one stage to each rank (run.stages: {asked}, ranks: {host.num_ranks}). "
                f"Leave --stages out, or start {asked} ranks."
            )
        if host.num_ranks > num_blocks:
            raise ConfigError(
                f"cannot split {num_blocks} blocks into {host.num_ranks} stages (blocks: {num_blocks}, ranks: "
                f"{host.num_ranks}). {'Lower --nproc-per-node to' if host.is_alone else 'Start on all hosts together'}"
                f" at most {num_blocks}."
            )
        return host.num_ranks
    if wanted == "auto":
        for given in (resolved.config.run.partition, resolved.config.run.replicas):
            if isinstance(given, list):
                return len(given)
        return min(num_blocks, host.num_gpus if device == "cuda" else host.cores)
    num_stages = num_blocks if wanted == "blocks" else int(wanted)
    if num_stages > num_blocks:
        raise ConfigError(
            f"cannot split {num_blocks} blocks into {num_stages} stages (blocks: {num_blocks}, stages: "
            f"{num_stages}). Lower --stages to at most {num_blocks}."
        )
    return num_stages


def _transport(wanted: str, host: Host, where: Devices, num_stages: int) -> str:
    """Name of the transport for every edge: ``wanted`` if it fits, under ``auto`` the first that does."""
    if wanted == "auto":
        fitting = _fitting(host, where if num_stages > 1 else Devices.CPU)  # a single stage has no edge
        if not fitting:
            raise ConfigError(
                f"no transport connects {_PLACES[where]} over several hosts (ranks: {host.num_ranks}, on this host: "
                f"{host.ranks_here}, GPUs here: {host.num_gpus}). Choose {_choices(host, where)}."
            )
        return fitting[0]
    declared = capabilities_of(wanted)  # raises, with the names there are
    if declared.reach is Reach.PROCESS and host.num_ranks > 1:
        raise ConfigError(
            f"the {wanted} transport runs all stages in one process (ranks: {host.num_ranks}, expected: 1). "
            f"Start it without torchrun, or choose {_choices(host, where)}."
        )
    if declared.reach is Reach.HOST and not host.is_alone:
        raise ConfigError(
            f"the {wanted} transport ends at the host (ranks: {host.num_ranks}, on this host: {host.ranks_here}). "
            f"Choose {_choices(host, where)}."
        )
    if num_stages > 1 and where not in declared.devices:
        served = " or ".join(text for place, text in _PLACES.items() if place in declared.devices)
        raise ConfigError(
            f"the {wanted} transport does not connect {_PLACES[where]} (stages: {num_stages}, GPUs here: "
            f"{host.num_gpus}, expected: {served}). Choose {_choices(host, where)}."
        )
    return wanted


def _fitting(host: Host, where: Devices) -> list[str]:
    """Names of Onward's own transports that ``auto`` may choose for stages at ``where``, in its order."""
    declared = {}
    for name in registry.known(PACKAGE):
        try:
            declared[name] = capabilities_of(name)
        except (ImportError, AttributeError) as error:  # a torch that was built without torch.distributed
            logger.debug("the transport %s cannot be imported: %s", name, error)
    order = sorted((c.auto_order, name) for name, c in declared.items() if c.auto_order is not None)
    reaches = {Reach.ANYWHERE: True, Reach.HOST: host.is_alone, Reach.PROCESS: host.num_ranks == 1}
    return [
        name for _, name in order
        if reaches[(is_ := declared[name]).reach] and where in is_.devices and (host.is_mixed or not is_.joins_hosts)
    ]  # fmt: skip


def _choices(host: Host, where: Devices) -> str:
    """End of a message to a user whose transport does not fit: what to choose instead."""
    fewer = [f"at most {host.num_gpus} stages per host"] if where is Devices.SHARED_GPU else []
    named = [f"--transport {', '.join(fitting)} or auto"] if (fitting := _fitting(host, where)) else []
    return ", or ".join([*fewer, *named])


def _partition(resolved: RunSpec, num_stages: int) -> Sequence[range] | None:
    """Blocks of each stage; None where they have to be measured."""
    wanted, num_blocks = resolved.config.run.partition, resolved.num_blocks
    if isinstance(wanted, list) and not resolved.mode.is_one_stage:
        try:
            ranges = partition.parse(wanted, num_blocks)
        except ValueError as error:
            raise ConfigError(f"run.partition: {error}") from None
        if len(ranges) != num_stages:
            raise ConfigError(
                f"run.partition lists {len(ranges)} stages and {num_stages} are to run (run.partition: {wanted}). "
                "Change one of them."
            )
        return ranges
    chaos = resolved.config.chaos
    if num_stages in (1, num_blocks) or (chaos.emulates and not chaos.emulates_measured):
        return partition.balanced([1.0] * num_blocks, num_stages)
    if wanted == "parameters" or resolved.topology is Topology.SETTLE:  # a settling block cannot be run alone
        return partition.balanced([float(s.num_parameters) for s in resolved.shapes], num_stages)
    return None
