"""Stages as the ranks that torchrun started: one stage per rank, on any number of hosts.

Rank 0 checks the config, places the blocks and coordinates in a thread of its own; the other ranks only know the
address to ask, and receive the same job over the same kind of connection as a process started here would.
"""

import datetime
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from pipeline.config import Config
from pipeline.errors import ConfigError, TransportTimeout, WorkerFailed
from pipeline.pickles import trusted
from pipeline.schedules.replicas import Replicas
from workers import messages
from workers.agent_store import lost_store_named
from workers.away import leader_lost, settled, told, use_line
from workers.control import ControlLink
from workers.coordination import Coordination
from workers.coordinator import Coordinator
from workers.courier import Courier
from workers.host.folders import new_folder, remove_orphans
from workers.host.identity import ProcessIdentity
from workers.host.signals import on_termination
from workers.hosts import StageHosts
from workers.job import Job
from workers.last_words import SilentLeader, end_rank, end_stopped, note_first_error, wait_for_first
from workers.line import Line
from workers.measure_run import measure_run
from workers.placement import this_host
from workers.rank_0 import find_rank_0
from workers.rank_lines import RankLines
from workers.ranks import Ranks, remember_folder, store_of
from workers.resume import Origin
from workers.run import Session, jobs_of, note_failure, open_session
from workers.run_key import given_key
from workers.run_plan import plan_run
from workers.view import ViewMaker
from workers.worker import run_stage

__all__ = ["Ranks", "run_rank"]

_GOODBYE_S = 2.0
"""Seconds that a rank that was told to end has for an orderly one."""
_REPORT_S = 10.0
"""Seconds that rank 0 has to print an error before this rank ends."""
_GROUP_TIMEOUT = datetime.timedelta(days=7)
"""Limit of the process group: an idle edge is legal, and our own waits have their own limits."""


def run_rank(
    ranks: Ranks,
    config: Config,
    *,
    out: Path,
    data_root: Path,
    make_view: ViewMaker | None,
    command: Sequence[str],
    origin: Origin | None = None,
    named_root: Path | None = None,
) -> None:
    """Run one rank's stage; rank 0 coordinates beside it.

    Args:
        ranks: this process's place.
        config, out, data_root, make_view, command, origin: as for :func:`workers.run.train`; of other ranks than 0 it
            is what they were given, which rank 0's job replaces.
        named_root: where data sets are on this host, if the user has said so: a rank on another host than rank 0's
            reads them there.

    Raises:
        ConfigError: on rank 0 what is wrong with the run, on any rank what is wrong with its key.
        WorkerFailed: on rank 0: a stage raised or died; on another: rank 0 cannot be reached.
    """
    try:
        given_key(alone=ranks.alone)  # every rank says at once that it is missing
        if ranks.rank > 0:
            _follow(ranks, out, named_root, config.run.start_timeout_s)
        else:
            _run_rank_0(ranks, store_of(ranks), config, out, data_root, make_view, command, origin)
    except Exception as error:
        note_first_error(error)
        raise


def _run_rank_0(
    ranks: Ranks,
    store: Store,
    config: Config,
    out: Path,
    data_root: Path,
    make_view: ViewMaker | None,
    command: Sequence[str],
    origin: Origin | None,
) -> None:
    """Rank 0 of :func:`run_rank`."""
    with lost_store_named(ranks.rank, ranks.num_ranks):
        found = RankLines(store, ranks.num_ranks, config.run.start_timeout_s, alone=ranks.alone)
    with found as lines:
        host = this_host(ranks.num_ranks, ranks.ranks_here, lines.hosts.index, lines.local_ranks, lines.gpus)
        plan = plan_run(config, host, out, data_root, origin=origin)
        with open_session(plan, out, data_root, make_view, command) as session:
            remember_folder(ranks, out)
            _lead(session, lines, store)
            session.finish()
    measure_run(plan.resolved, plan.placement, session.run_state, out, data_root)


def _lead(session: Session, lines: RankLines, store: Store) -> None:
    """Coordinate in a thread while this process runs stage 0."""
    job = lines.share_out(jobs_of(session))
    run = session.resolved.config.run

    def give_up(error: BaseException) -> None:
        """Ends all ranks, this one too, where its main thread may be inside torch."""
        note_failure(session.out, session.recorder, error, traced=run.trace)
        shutil.rmtree(session.folder, ignore_errors=True)
        lines.tell(error)
        end_stopped(lines.identities.values())
        end_rank(error, 2 if isinstance(error, ConfigError) else 1)

    coordinator = Coordinator(
        session.run_state, lines.all, (), run.timeout_s, identities=lines.identities,
        start_timeout_s=run.start_timeout_s, hosts=lines.hosts, replicas=session.placement.replicas,
    )  # fmt: skip
    coordination = Coordination(coordinator, give_up)
    on_termination(coordination.terminate)
    link = ControlLink(lines.own, 0, orphaned=lambda: None)
    try:
        coordination.start()
        _run_stage(job, link, store)
    except BaseException as error:
        raise coordination.cause(error) from None
    coordination.join(run.timeout_s, session.placement.num_stages)
    link.close()


def _follow(ranks: Ranks, out: Path, named_root: Path | None, patience_s: float) -> None:
    """Ask rank 0 for a job and do it, on any other rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides what an interrupt means
    offered = None
    if ranks.local_rank == 0 and not ranks.alone:  # on rank 0's host it does both
        remove_orphans()
        offered = new_folder()
    try:
        store, line, freight = find_rank_0(ranks, offered, patience_s)
        _do_job(ranks, store, line, freight, out, named_root)
    finally:
        if offered is not None:
            shutil.rmtree(offered, ignore_errors=True)


def _do_job(ranks: Ranks, store: Store, line: Line, freight: Line | None, out: Path, root: Path | None = None) -> None:
    """Receive a job and do it."""
    try:
        data = line.receive()
    except (EOFError, OSError):
        if ranks.local_rank > 0:  # the first one of the host says it; on rank 0's own host that is rank 0
            wait_for_first()
            raise SystemExit(1) from None
        raise WorkerFailed(
            0, ranks.num_ranks, "it ended before it gave out the jobs: its process died, or its host or the network "
            "between was lost. Look at its output.",
        ) from None  # fmt: skip
    except ValueError as error:
        raise WorkerFailed(
            ranks.rank, ranks.num_ranks, f"what came in place of its job was thrown away: {error}. Look who else can "
            "reach torchrun's rendezvous endpoint.",
        ) from None  # fmt: skip
    try:
        leader, hosts, job = trusted(data)
    except Exception as error:  # a module of the user's that cannot be imported here
        messages.send(line.connection, "failed", messages.failure(ranks.rank, error))
        line.connection.poll(_REPORT_S)
        raise SystemExit(1) from None
    if job is None:
        if line.connection.poll(_REPORT_S) and not leader.is_here:  # the end of rank 0, after its last word
            with suppress(EOFError, OSError):
                told(hosts, ranks.rank, messages.receive(line.connection)[1])
        raise SystemExit(2)
    link = _link(ranks.rank, line, leader, hosts, job.replicas or Replicas.single(ranks.num_ranks))
    on_termination(lambda number: _say_goodbye(link, job.process, number))
    use_line(line, hosts, leader)
    try:
        with settled(job, freight, out, link, root) as (job, courier):
            _run_stage(job, link, store, courier)
    except SystemExit as end:  # this thread may be faster than the one that says goodbye
        _tell_end(link, job.process, int(end.code or 0) - 128)
        raise
    except Exception as error:
        # Reported to rank 0 already, with its traceback; the listener notices the end of rank 0, and ends this.
        if not isinstance(error, TransportTimeout):  # a consequence
            note_first_error(error)
        time.sleep(_REPORT_S)
        os._exit(1)
    link.close()


def _link(
    rank: int, line: Line, leader: ProcessIdentity, hosts: StageHosts, replicas: Replicas
) -> ControlLink:  # fmt: skip
    """This rank's end of its line, served from now on."""
    silent = SilentLeader(leader, rank, replicas)
    if leader.is_here:
        return ControlLink(line.connection, rank, silent=silent)
    return ControlLink(
        line.connection, rank, lambda: leader_lost(hosts, rank, replicas), silent,
        lambda body: told(hosts, rank, body),
    )  # fmt: skip


def _say_goodbye(link: ControlLink, stage: int, number: int) -> None:
    """Tell the coordinator that this rank was told to end, before the others take its silence for a death; then end,
    also where the main thread is inside torch."""
    _tell_end(link, stage, number)
    time.sleep(_GOODBYE_S)
    os._exit(128 + number)


def _tell_end(link: ControlLink, stage: int, number: int) -> None:
    """Report the signal that ends this rank."""
    text = f"it was told to end ({signal.Signals(number).name if number > 0 else number})"
    link.send("failed", {"stage": stage, "kind": "interrupted", "message": text, "text": text})


def _run_stage(job: Job, link: ControlLink, store: Store, courier: Courier | None = None) -> None:
    """Run one stage, within a process group where its transport needs one."""
    if job.needs_group:
        backend = "gloo" if job.endpoint.device == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(
            backend, store=PrefixStore("group", store), rank=job.process, world_size=job.endpoint.num_stages,
            timeout=_GROUP_TIMEOUT,
        )  # fmt: skip
    run_stage(job, link, courier)
    if job.needs_group:
        dist.destroy_process_group()
