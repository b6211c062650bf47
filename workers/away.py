"""A stage on another host than rank 0's: its folders there, its files' way home, and its last words."""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, WorkerFailed
from pipeline.records.files import reason
from pipeline.schedules.replicas import Replicas
from workers import messages
from workers.control import ControlLink
from workers.courier import Courier
from workers.host.identity import ProcessIdentity
from workers.host.interfaces import use_interface
from workers.hosts import GONE, StageHosts
from workers.job import Job
from workers.last_words import end_rank, wait_for_first
from workers.line import Line
from workers.rescue import spare_folder
from workers.rescue_courier import RescueCourier

__all__ = ["leader_lost", "settled", "told", "use_line"]


@contextmanager
def settled(
    job: Job, freight: Line | None, own_out: Path, link: ControlLink, own_root: Path | None = None
) -> Iterator[tuple[Job, Courier | None]]:
    """The job with the folders of this host, and a courier on another host than rank 0's. Where that shares the run's
    folder, the courier brings only what the folder has refused.

    Args:
        job: as rank 0 has sent it.
        freight: the line for files.
        own_out: ``--out`` as this rank was given it.
        link: to rank 0, which is told of what is raised.
        own_root: where data sets are on this host; None: where they are on rank 0's.

    Raises:
        ConfigError: the snapshot that the run goes on from, or the run that it starts from, cannot be brought here.
    """
    if freight is None or job.is_beside_rank_0:
        if freight is not None:
            freight.connection.close()
        yield job, None
        return
    job = replace(job, data_root=own_root or job.data_root)
    folder = Path(job.endpoint.folder)
    # Beside what the user keeps there, and never in the way of another run.
    root = own_out / f"stage-{job.process}-{folder.name.rpartition('-')[2]}"
    if job.shares_out:
        job = replace(job, spare=spare_folder(root, folder))
        rescuer = RescueCourier(freight.connection, job.spare)
        yield job, rescuer
        rescuer.close()
        return
    courier = Courier(freight.connection, root)
    try:
        try:
            job = _with_state(job, courier, own_out)
        except ConfigError as refusal:
            link.send("failed", messages.failure(job.process, refusal))
            raise
        yield replace(job, out=root, spare=spare_folder(root, folder)), courier
        courier.close()
    finally:
        courier.drop_start()
        for empty in (root, own_out):
            with suppress(OSError):  # something is in it
                empty.rmdir()


def _with_state(job: Job, courier: Courier, own_out: Path) -> Job:
    """The job with the files that its blocks begin with on this host; raises ConfigError where they cannot be there."""
    what = "snapshot"
    try:
        if job.start is not None:
            job = replace(job, start=replace(job.start, folder=courier.fetch_start(job.start.folder.name, job.blocks)))
        if (initial := job.resolved.initial) is not None:
            what = "run of --init-from"
            folder = courier.fetch_initial([k for k in job.blocks if k in initial.files])
            job = replace(job, resolved=replace(job.resolved, initial=replace(initial, folder=folder)))
    except OSError as error:
        raise ConfigError(
            f"the {what} cannot be brought to host {platform.node()} (given: --out {own_out}, {reason(error)}). "
            "Choose another --out there."
        ) from None
    return job


def use_line(line: Line, hosts: StageHosts, leader: ProcessIdentity) -> None:
    """Has gloo use the network between the hosts, where there are several.

    Elsewhere that is the one of the line to rank 0; on rank 0's own host the line may be a loopback one.
    """
    if hosts.are_several:
        use_interface(hosts.address if leader.is_here else line.address)


def told(hosts: StageHosts, stage: int, body: Mapping[str, Any]) -> None:
    """Ends a stage that rank 0 has told why the run ends; the first of its host prints it."""
    _end(RuntimeError(body["text"]), hosts, stage, body["code"])


def leader_lost(hosts: StageHosts, rank: int, replicas: Replicas) -> None:
    """Ends a rank whose line to rank 0 has ended without a word; the first of its host names rank 0's.

    Args:
        hosts: of all ranks.
        rank: this one.
        replicas: processes of each stage: the ranks.
    """
    text = f"{hosts.text(0, replicas)}: {GONE} It also coordinates, so every rank ends."
    _end(WorkerFailed(0, replicas.num_stages, text, name=replicas.name(0)), hosts, rank, 1)


def _end(error: Exception, hosts: StageHosts, stage: int, code: int) -> None:
    """Ends this process, with the message where it is the first of its host."""
    if stage == hosts.first_beside(stage):
        end_rank(error, code)
    wait_for_first()
    os._exit(code)
