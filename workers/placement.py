"""Which stage goes where: how many stages, which blocks, which device, which transport, how many threads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.planning import partition
from pipeline.planning.prediction import Prediction
from pipeline.registry import load
from pipeline.resolve import RunSpec
from workers.block_costs import block_costs

__all__ = ["Host", "Placement", "place", "this_host"]


@dataclass(frozen=True)
class Host:
    """What there is to place stages on."""

    cores: int
    """Physical cores that this process may use."""
    num_gpus: int
    """CUDA devices of this host."""
    num_ranks: int = 1
    """Ranks that torchrun started in all; 1 without it."""
    ranks_here: int = 1
    """Ranks on this host."""

    @property
    def is_alone(self) -> bool:
        """Whether all ranks are on this host."""
        return self.ranks_here == self.num_ranks


@dataclass(frozen=True)
class Placement:
    """Where every stage runs."""

    partition: tuple[range, ...]
    """Blocks of each stage."""
    devices: tuple[str, ...]
    """Of each stage: ``cpu``, ``cuda:0``, ..."""
    transport: str
    threads: int
    """Compute threads per stage."""
    block_s: tuple[float, ...] | None = None
    """Seconds of each block measured alone, where that has decided the partition."""
    predicted: Prediction | None = None
    """How fast the run is going to be, where that is known."""

    @property
    def num_stages(self) -> int:
        """Of the pipeline."""
        return len(self.partition)


def this_host(num_ranks: int = 1, ranks_here: int = 1) -> Host:
    """This machine, as far as this process may use it."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return Host(min(physical, allowed), torch.cuda.device_count(), num_ranks, ranks_here)


def place(resolved: RunSpec, host: Host) -> Placement:
    """Lays the blocks of a run on stages.

    Raises:
        ConfigError: more stages than blocks, a device that is not there, a transport that does not fit.
    """
    device = _device(resolved.config.run.device, host)
    num_stages = _num_stages(resolved, host, device)
    transport = _transport(resolved.config.transport.name, host, device, num_stages)
    stages_here = num_stages if host.num_ranks == 1 else host.ranks_here
    threads = resolved.config.run.threads or max(1, host.cores // (1 if transport == "inline" else stages_here))
    devices = tuple(
        device if device == "cpu" else f"cuda:{s % stages_here % host.num_gpus}" for s in range(num_stages)
    )
    ranges = _partition(resolved, num_stages)
    if ranges is not None:
        return Placement(tuple(ranges), devices, transport, threads)
    costs = block_costs(resolved, threads, torch.device(devices[0]))
    return Placement(tuple(partition.balanced(costs, num_stages)), devices, transport, threads, tuple(costs))


def _device(wanted: str, host: Host) -> Literal["cpu", "cuda"]:
    """The kind of device."""
    if wanted == "cuda" and host.num_gpus == 0:
        raise ConfigError(
            "there is no CUDA device here (run.device: cuda, expected: cpu or auto). Pass --device cpu."
        )
    return "cuda" if wanted != "cpu" and host.num_gpus > 0 else "cpu"


def _num_stages(resolved: RunSpec, host: Host, device: str) -> int:
    """How many stages; one rank each under torchrun with several ranks."""
    wanted, num_blocks = resolved.config.run.stages, resolved.num_blocks
    if resolved.mode.is_one_stage:
        if host.num_ranks > 1:
            raise ConfigError(
                f"the mode {resolved.mode.name} is one process (ranks: {host.num_ranks}, expected: 1). "
                "Start it without --nproc-per-node, or choose gpipe or 1f1b."
            )
        return 1
    if host.num_ranks > 1:
        asked = num_blocks if wanted == "blocks" else wanted
        if asked not in ("auto", host.num_ranks):
            raise ConfigError(
                f"torchrun gives one stage to each rank (run.stages: {asked}, ranks: {host.num_ranks}). "
                f"Leave --stages out, or start {asked} ranks."
            )
        if host.num_ranks > num_blocks:
            raise ConfigError(
                f"cannot split {num_blocks} blocks into {host.num_ranks} stages (blocks: {num_blocks}, ranks: "
                f"{host.num_ranks}). Lower --nproc-per-node to at most {num_blocks}."
            )
        return host.num_ranks
    if wanted == "auto":
        if isinstance(resolved.config.run.partition, list):
            return len(resolved.config.run.partition)
        return min(num_blocks, host.num_gpus if device == "cuda" else host.cores)
    num_stages = num_blocks if wanted == "blocks" else int(wanted)
    if num_stages > num_blocks:
        raise ConfigError(
            f"cannot split {num_blocks} blocks into {num_stages} stages (blocks: {num_blocks}, stages: "
            f"{num_stages}). Lower --stages to at most {num_blocks}."
        )
    return num_stages


def _transport(wanted: str, host: Host, device: str, num_stages: int) -> str:
    """The transport for every edge."""
    shared_gpu = device == "cuda" and max(host.ranks_here, num_stages if host.num_ranks == 1 else 1) > host.num_gpus
    if wanted == "auto" and num_stages == 1 and host.num_ranks == 1:
        return "shared_memory"  # no wire at all
    if wanted == "auto":
        fast = device == "cuda" and not shared_gpu
        wanted = "process_group" if fast or not host.is_alone else "shared_memory"
    else:
        load("workers.transports", wanted, "transport")  # raises, with the names there are
    if wanted == "process_group" and shared_gpu and num_stages > 1:
        raise ConfigError(
            f"nccl refuses two stages on one GPU (transport: process_group, stages: {num_stages}, GPUs here: "
            f"{host.num_gpus}). Choose at most {host.num_gpus} stages per host"
            f"{', or --transport shared_memory' if host.is_alone else ''}."
        )
    if wanted == "inline" and host.num_ranks > 1:
        raise ConfigError(
            f"the inline transport runs all stages in one process (ranks: {host.num_ranks}, expected: 1). "
            "Start it without torchrun, or choose auto."
        )
    if wanted == "shared_memory" and not host.is_alone:
        raise ConfigError(
            f"shared memory ends at the host (ranks: {host.num_ranks}, on this host: {host.ranks_here}). "
            "Choose --transport process_group or auto."
        )
    if wanted == "shared_memory" and device == "cuda" and not shared_gpu and num_stages > 1:
        raise ConfigError(
            "shared memory is for stages on the CPU or on one GPU (transport: shared_memory, device: cuda, GPUs: "
            f"{host.num_gpus}). Choose --transport process_group or auto."
        )
    return wanted


def _partition(resolved: RunSpec, num_stages: int) -> Sequence[range] | None:
    """Blocks of each stage; None where they have to be measured."""
    wanted = resolved.config.run.partition
    num_blocks = resolved.num_blocks
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
    if num_stages in (1, num_blocks):
        return partition.balanced([1.0] * num_blocks, num_stages)
    if wanted == "parameters" or resolved.topology is Topology.SETTLE:  # a settling block cannot be run alone
        return partition.balanced([float(s.num_parameters) for s in resolved.shapes], num_stages)
    return None
