"""Jobs: a stage's share of a run, sent to its process at the start."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pipeline.engine.block_state import BlockState
from pipeline.engine.start import Start
from pipeline.errors import ConfigError, DamagedFile
from pipeline.network.block import Blueprint
from pipeline.numerics.compute import compute_as
from pipeline.records.snapshots import Manifest, read_block
from pipeline.resolve import RunSpec
from pipeline.schedules.batching import Batching
from pipeline.schedules.plan import Plan
from workers.edges import edges_of
from workers.placement import Placement
from workers.rescue import spare_folder
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

    def through(self, blocks: range, plans: Sequence[Plan | None], batching: Batching) -> "StartPoint":
        """The same for the stage of ``blocks``, with the samples that it would have seen; ``plans`` are of all epochs
        up to the cut's own."""
        epochs = [plan is not None and len(plan.active(blocks)) > 0 for plan in plans]
        cut = self.manifest.cut
        samples = sum(epochs[: cut.epoch]) * batching.num_train
        if cut.step > 0 and epochs[cut.epoch]:
            samples += cut.step * batching.batch_size
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
    mark: str | None = None
    """Name of a file in the run's folder by which another host knows that it shares the folder; None: it does not."""

    @property
    def stage_index(self) -> int:
        """Of the stage."""
        return self.endpoint.stage_index

    @property
    def num_stages(self) -> int:
        """Of the pipeline."""
        return self.endpoint.num_stages

    @property
    def shares_out(self) -> bool:
        """Whether the run's folder is rank 0's own here: on its host, and where another host has it too."""
        hosts = self.endpoint.hosts
        if not hosts or hosts[self.stage_index] == hosts[0]:
            return True
        return self.mark is not None and (self.out / self.mark).exists()

    def compute(self) -> AbstractContextManager[None]:
        """The stage's threads and number formats, for a process that is not its own; see :func:`compute_as`."""
        precision = self.resolved.config.run.matmul_precision
        return compute_as(self.threads, precision, torch.device(self.endpoint.device))

    @property
    def blocks(self) -> range:
        """Blocks of this stage."""
        return self.partition[self.stage_index]


def share_out(resolved: RunSpec, placement: Placement, folder: Path, data_root: Path, out: Path) -> list[Job]:
    """Every stage's share of a run.

    Args:
        resolved: the run.
        placement: where it runs.
        folder: for sockets and rendezvous files; its path is short, as those of Unix sockets must be.
        data_root: where data sets are.
        out: the run's folder.
    """
    config = resolved.config
    edges = edges_of(resolved, placement.partition, config.transport.depth)
    jobs = []
    for index, blocks in enumerate(placement.partition):
        endpoint = Endpoint(
            index, placement.num_stages, edges, str(folder), config.run.timeout_s, placement.devices[index],
            config.run.start_timeout_s,
        )
        jobs.append(
            Job(
                replace(resolved, blueprints=()), resolved.blueprints[blocks.start : blocks.stop],
                placement.partition, placement.transport, endpoint, placement.threads, placement.needs_group,
                data_root, out, spare_folder(out, folder),
            )
        )  # fmt: skip
    return jobs
