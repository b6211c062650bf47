"""Jobs: a stage's share of a run, sent to its process at the start."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.engine.block_state import BlockState
from pipeline.engine.start import Start
from pipeline.errors import ConfigError, DamagedFile
from pipeline.network.block import Blueprint
from pipeline.numerics.compute import compute_as
from pipeline.records.reports import StageEpoch, StageProgress
from pipeline.records.snapshots import Manifest, read_block
from pipeline.resolve import RunSpec
from pipeline.schedules.batching import Batching
from pipeline.schedules.plan import Plan
from pipeline.schedules.replicas import Replicas
from workers.edges import edges_of
from workers.placement import Placement
from workers.trace_origin import TraceStart
from workers.transport import Endpoint

__all__ = ["Job", "StartPoint", "share_out"]


@dataclass(frozen=True)
class StartPoint:
    """A snapshot that a run goes on from."""

    folder: Path
    manifest: Manifest
    samples: int = 0
    """Training samples that have gone through the stage."""

    def of(self, blocks: range) -> Start:
        """The state of a stage's blocks.

        Raises:
            ConfigError: a file is not what the manifest says.
        """
        try:
            files = {k: read_block(self.folder, k, self.manifest.files[k]) for k in blocks}
        except DamagedFile as error:  # since the start of the run, or on this host alone
            raise ConfigError(str(error)) from None
        states = {k: BlockState(file.tensors, file.about) for k, file in files.items()}
        return Start(self.manifest.cut, states, self.samples)

    def through(
        self, blocks: range, plans: Sequence[Plan | None], batching: Batching, dealt: slice = slice(None)
    ) -> "StartPoint":
        """The same for the stage of ``blocks``, with the samples that it would have seen; ``plans`` are of all epochs
        up to the cut's own, ``dealt`` are the micro-batches of each step that the process works on."""
        epochs = [plan is not None and len(plan.active(blocks)) > 0 for plan in plans]
        cut = self.manifest.cut
        samples = sum(epochs[: cut.epoch]) * batching.samples_dealt(batching.num_steps, dealt)
        if cut.step > 0 and epochs[cut.epoch]:
            samples += batching.samples_dealt(cut.step, dealt)
        return replace(self, samples=samples)

    def check_data(self, crc32: int) -> None:
        """Compares the data with those that the run began with.

        Raises:
            ConfigError: they are others.
        """
        expected = (self.manifest.fixed or {}).get("data_crc32", crc32)
        if crc32 != expected:
            raise ConfigError(
                f"the data are not those that the run began with (given: checksum {crc32:08x}, expected: "
                f"{expected:08x}). Name the folder of those with --data-root."
            )


@dataclass(frozen=True)
class Job:
    """One stage's share of a run. Picklable."""

    resolved: RunSpec
    """Of the whole run, without blueprints: a stage gets its own only."""
    blueprints: tuple[Blueprint, ...]
    """Of this stage's blocks."""
    partition: tuple[range, ...]
    transport: str
    """A name or a dotted name."""
    endpoint: Endpoint
    threads: int
    needs_group: bool
    """The transport wants a process group of ``torch.distributed`` around it."""
    data_root: Path
    out: Path
    """The run's folder."""
    spare: Path
    """The run's second place, see :mod:`workers.rescue`. Decided once: each process has an environment of its own."""
    trace: TraceStart | None = None
    """Where the stage is to keep a trace: the origin of its time line."""
    start: StartPoint | None = None
    """Where the stage goes on; None at the beginning."""
    replicas: Replicas | None = None
    """Processes of each stage; None where each has one."""
    block_s: tuple[float, ...] | None = None
    """Seconds of a micro-batch in each block of the network, where emulated compute takes as long."""
    mark: str | None = None
    """Name of a file in the run's folder by which another host knows that it shares the folder; None: it does not."""

    @property
    def process(self) -> int:
        """Number of this process: at both ends of edges, in reports, for the coordinator. That of its stage, where
        each stage has one process."""
        return self.endpoint.stage_index

    @property
    def stage_index(self) -> int:
        """Of the stage, in the pipeline."""
        return self.process if self.replicas is None else self.replicas.place(self.process)[0]

    @property
    def replica(self) -> int:
        """Which of the stage's replicas this is. The first one reports scores and writes weights."""
        return 0 if self.replicas is None else self.replicas.place(self.process)[1]

    @property
    def dealt(self) -> slice:
        """The micro-batches of each step that this process works on."""
        return slice(self.replica, None, len(self._group))

    @property
    def name(self) -> str:
        """``stage 1/2, replica 0/2``; empty where each stage has one process."""
        return "" if self.replicas is None else self.replicas.name(self.process)

    def sign(self, report: StageEpoch | StageProgress) -> None:
        """Adds to a report which of several replicas it comes from."""
        if self.replicas is not None:
            report["process"], report["replica"] = self.process, self.replica

    def waiting(self, fill: Callable[[int], int]) -> int | None:
        """Activations that wait in front of this stage; None in front of the first. Args: fill, of an edge, by its
        sender."""
        below = [edge.src for edge in self.endpoint.incoming() if edge.src < self._group.start]
        return sum(map(fill, below)) if below else None

    @property
    def _group(self) -> range:
        """Processes of this stage."""
        replicas = self.replicas or Replicas.single(self.num_stages)
        return replicas.group(self.stage_index)

    @property
    def num_stages(self) -> int:
        """Of the pipeline."""
        return len(self.partition)

    @property
    def is_beside_rank_0(self) -> bool:
        """Whether this process is on rank 0's host."""
        hosts = self.endpoint.hosts
        return not hosts or hosts[self.process] == hosts[0]

    @property
    def shares_out(self) -> bool:
        """Whether the run's folder is rank 0's own here: on its host, and where another host has it too."""
        return self.is_beside_rank_0 or (self.mark is not None and (self.out / self.mark).exists())

    def compute(self) -> AbstractContextManager[None]:
        """The stage's threads and number formats, for a process that is not its own; see :func:`compute_as`."""
        precision = self.resolved.config.run.matmul_precision
        return compute_as(self.threads, precision, torch.device(self.endpoint.device))

    @property
    def blocks(self) -> range:
        """Blocks of this stage."""
        return self.partition[self.stage_index]


def share_out(
    resolved: RunSpec, placement: Placement, folder: Path, data_root: Path, out: Path, spare: Path
) -> list[Job]:
    """The share of a run of every process, in the order of their numbers.

    Args:
        resolved: the run.
        placement: where it runs.
        folder: for sockets and rendezvous files; its path is short, as those of Unix sockets must be.
        data_root: where data sets are.
        out: the run's folder.
        spare: its second place.
    """
    config = resolved.config
    replicas = placement.replicas
    edges = edges_of(resolved, placement.partition, config.transport.depth, replicas)
    jobs = []
    for index in range(replicas.num_processes):
        blocks = placement.partition[replicas.place(index)[0]]
        endpoint = Endpoint(
            index, replicas.num_processes, edges, str(folder), config.run.timeout_s, placement.devices[index],
            config.run.start_timeout_s,
        )
        jobs.append(
            Job(
                replace(resolved, blueprints=()), resolved.blueprints[blocks.start : blocks.stop],
                placement.partition, placement.transport, endpoint, placement.threads, placement.needs_group,
                data_root, out, spare, replicas=None if replicas.is_single else replicas,
                block_s=placement.block_s,
            )
        )  # fmt: skip
    return jobs
