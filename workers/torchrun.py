"""Stages as the ranks that torchrun started: one stage per rank, on any number of hosts.

Rank 0 checks the config, places the blocks and coordinates in a thread of its own; the other ranks only know the
address to ask, and receive the same job over the same kind of connection as a process started here would.
"""

import datetime
import json
import os
import pickle
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from pipeline.config import Config
from pipeline.errors import ConfigError, TransportTimeout, WorkerFailed
from pipeline.pickles import trusted
from workers import messages
from workers.control import ControlLink
from workers.control_port import ControlPort, Line, visit
from workers.coordination import Coordination
from workers.coordinator import Coordinator
from workers.host.identity import ProcessIdentity
from workers.host.signals import on_termination
from workers.job import Job
from workers.last_words import SilentLeader, end_rank, end_stopped, note_first_error
from workers.measure_run import measure_run
from workers.placement import this_host
from workers.ranks import Ranks, remember_folder, store_of
from workers.resume import Origin
from workers.run import Session, jobs_of, note_failure, open_session
from workers.run_key import KeyFile, given_key, read_key
from workers.run_plan import plan_run
from workers.view import ViewMaker
from workers.worker import failure, run_stage

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
) -> None:
    """Run one rank's stage; rank 0 coordinates beside it.

    Raises:
        ConfigError: on rank 0 what is wrong with the run, on any rank what is wrong with its key.
        WorkerFailed: on rank 0: a stage raised or died; on another: rank 0 cannot be reached.
    """
    try:
        given_key(alone=ranks.alone)  # every rank says at once that it is missing
        store = store_of(ranks)
        if ranks.rank > 0:
            _follow(ranks, store)
        else:
            _run_rank_0(ranks, store, config, out, data_root, make_view, command, origin)
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
    with _Connections(ranks, store, config.run.start_timeout_s) as connections:
        try:
            host = this_host(ranks.num_ranks, ranks.ranks_here)
            plan = plan_run(config, host, out, data_root, origin=origin)
        except ConfigError:
            connections.broadcast(None)
            raise
        with open_session(plan, out, data_root, make_view, command) as session:
            remember_folder(ranks, out)
            _lead(session, connections, store)
            session.finish()
    measure_run(plan.resolved, plan.placement, session.run_state, out, data_root)


class _Connections:
    """Rank 0's connections to every rank's stage, its own included."""

    def __init__(self, ranks: Ranks, store: Store, start_timeout_s: float) -> None:
        here, self.own = Pipe()
        key = given_key(alone=ranks.alone)
        file = KeyFile() if key is None else None
        self._port = ControlPort(
            key or file.key, "127.0.0.1" if ranks.alone else "0.0.0.0", ranks.num_ranks  # type: ignore[union-attr]
        )
        host = "127.0.0.1" if ranks.alone else os.environ.get("MASTER_ADDR", "localhost")
        try:
            about = {"host": host, "port": self._port.port, "key_file": str(file.path) if file is not None else None}
            store.set("control", json.dumps(about))
            self._lines = self._port.wait_for_ranks(start_timeout_s)
        finally:
            self._port.close()
            if file is not None:
                file.remove()
        self.all: list[Connection] = [here, *(line.connection for _, line in sorted(self._lines.items()))]
        self.identities = {rank: line.identity for rank, line in self._lines.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the connections after a run. After a failure they end with this process, which has yet to print it:
        torchrun ends every rank as soon as one has ended."""
        if kind is None:
            for connection in self.all:
                connection.close()
        else:
            end_stopped(self.identities.values())

    def broadcast(self, jobs: Sequence[Job] | None) -> None:
        """Send every other rank its job; None where the config is wrong and there is nothing to do."""
        identity = ProcessIdentity.own()
        for rank, line in self._lines.items():
            with suppress(OSError):  # dead already: the coordinator will notice
                line.send(pickle.dumps((identity, jobs[rank] if jobs is not None else None)))


def _lead(session: Session, connections: _Connections, store: Store) -> None:
    """Coordinate in a thread while this process runs stage 0."""
    jobs = jobs_of(session)
    connections.broadcast(jobs)
    run = session.resolved.config.run

    def give_up(error: BaseException) -> None:
        note_failure(session.out, session.recorder, error, traced=session.resolved.config.run.trace)
        shutil.rmtree(session.folder, ignore_errors=True)
        end_stopped(connections.identities.values())
        end_rank(error)

    coordinator = Coordinator(
        session.run_state, connections.all, (), run.timeout_s, identities=connections.identities,
        start_timeout_s=run.start_timeout_s, replicas=session.placement.replicas,
    )  # fmt: skip
    coordination = Coordination(coordinator, give_up)
    on_termination(coordination.terminate)
    link = ControlLink(connections.own, 0, orphaned=lambda: None)
    try:
        _run_stage(jobs[0], link, store)
    except BaseException as error:
        raise coordination.cause(error) from None
    coordination.join(run.timeout_s, session.placement.num_stages)
    link.close()


def _follow(ranks: Ranks, store: Store) -> None:
    """Ask rank 0 for a job and do it, on any other rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides what an interrupt means
    line = _line_to_rank_0(ranks, store)
    try:
        data = line.receive()
    except (EOFError, OSError):
        raise SystemExit(1) from None
    except ValueError as error:
        raise WorkerFailed(
            ranks.rank, ranks.num_ranks, f"what came in place of its job was thrown away: {error}. Look who else can "
            "reach torchrun's rendezvous endpoint.",
        ) from None  # fmt: skip
    try:
        leader, job = trusted(data)
    except Exception as error:  # a module of the user's that cannot be imported here
        messages.send(line.connection, "failed", failure(ranks.rank, error))
        line.connection.poll(_REPORT_S)
        raise SystemExit(1) from None
    if job is None:
        line.connection.poll(_REPORT_S)  # the end of rank 0, which has the message to print
        raise SystemExit(2)
    silent = SilentLeader(leader, ranks.rank, ranks.num_ranks)
    link = ControlLink(line.connection, job.process, silent=silent)
    on_termination(lambda number: _say_goodbye(link, job.process, number))
    try:
        _run_stage(job, link, store)
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


def _line_to_rank_0(ranks: Ranks, store: Store) -> Line:
    """This rank's line. What the store says may be a stranger's: it is told nothing, and runs nothing."""
    key = given_key(alone=ranks.alone)
    try:
        about = json.loads(store.get("control"))
        host, port, path = str(about["host"]), int(about["port"]), about["key_file"]
        key_path = Path(path) if key is None else None
    except (ValueError, TypeError, KeyError) as error:
        raise WorkerFailed(
            ranks.rank, ranks.num_ranks,
            f"torchrun's store holds no address of rank 0 ({type(error).__name__}: {error}). Use a rendezvous "
            "endpoint that nobody else writes to.",
        ) from None  # fmt: skip
    return visit(host, port, key or read_key(key_path or Path()), ranks.rank, ranks.num_ranks)


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


def _run_stage(job: Job, link: ControlLink, store: Store) -> None:
    """Run one stage, within a process group where its transport needs one."""
    if job.needs_group:
        backend = "gloo" if job.endpoint.device == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(
            backend, store=PrefixStore("group", store), rank=job.process, world_size=job.endpoint.num_stages,
            timeout=_GROUP_TIMEOUT,
        )  # fmt: skip
    run_stage(job, link)
    if job.needs_group:
        dist.destroy_process_group()
