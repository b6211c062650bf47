"""Stages as the ranks that torchrun started: one stage per rank, on any number of hosts.

Rank 0 checks the config, places the blocks and coordinates in a thread of its own; the other ranks only know the
address to ask, and receive the same job over the same kind of connection as a process started here would.
"""

import datetime
import os
import pickle
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Self

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pipeline.config import Config
from pipeline.errors import ConfigError, WorkerFailed
from workers.control import ControlLink
from workers.coordinator import Coordinator
from workers.job import Job
from workers.measure_run import measure_run
from workers.placement import this_host
from workers.resume import Origin
from workers.run import Session, jobs_of, note_failure, open_session, plan_run
from workers.view import ViewMaker
from workers.worker import failure, run_stage

__all__ = ["Ranks", "run_rank"]

_CONNECT_S = 120.0
_NOTICE_S = 3.0
"""Seconds that the main thread has to notice an interrupt."""
_REPORT_S = 10.0
"""Seconds that rank 0 has to print an error before this rank ends."""
_GROUP_TIMEOUT = datetime.timedelta(days=7)
"""Limit of the process group: an idle edge is legal, and our own waits have their own limits."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that torchrun started."""

    rank: int
    num_ranks: int
    ranks_here: int
    restart: int
    """Times that torchrun has restarted the ranks."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """Read torchrun's variables; None without it, or with a single rank, which starts its own processes."""
        read = os.environ.get
        num_ranks = int(read("WORLD_SIZE", "1"))
        if num_ranks == 1 or read("RANK") is None:
            return None
        return cls(
            rank=int(read("RANK", "0")), num_ranks=num_ranks, ranks_here=int(read("LOCAL_WORLD_SIZE", str(num_ranks))),
            restart=int(read("TORCHELASTIC_RESTART_COUNT", "0")),
        )  # fmt: skip


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
        ConfigError: on every rank, with the text on rank 0 and an empty one elsewhere.
        WorkerFailed: on rank 0: a stage raised or died.
    """
    store = _store(ranks)
    if ranks.rank > 0:
        _follow(ranks, store)
        return
    with _Connections(ranks, store) as connections:
        try:
            host = this_host(ranks.num_ranks, ranks.ranks_here)
            plan = plan_run(config, host, out, data_root, origin=origin)
        except ConfigError:
            connections.broadcast(None)
            raise
        with open_session(plan, out, data_root, make_view, command) as session:
            _lead(session, connections, store)
            session.finish()
    measure_run(plan.resolved, plan.placement, session.run_state, out, data_root)


def _store(ranks: Ranks) -> Store:
    """torchrun's own key-value store, a name space for each restart."""
    store, _, _ = next(iter(rendezvous("env://", ranks.rank, ranks.num_ranks)))
    return PrefixStore(f"onward-{ranks.restart}", store)


class _Connections:
    """Rank 0's connections to every rank's stage, its own included."""

    def __init__(self, ranks: Ranks, store: Store) -> None:
        here, self.own = Pipe()
        self.all: list[Connection] = [here]
        key = secrets.token_bytes(32)
        alone = ranks.ranks_here == ranks.num_ranks
        self._listener = _listen(key, alone=alone)
        port = self._listener.address[1]
        host = "127.0.0.1" if alone else os.environ.get("MASTER_ADDR", "localhost")
        store.set("control", pickle.dumps((host, port, key)).hex())
        others: dict[int, Connection] = {}
        _socket_of(self._listener).settimeout(_CONNECT_S)
        for _ in range(ranks.num_ranks - 1):
            connection = self._listener.accept()
            others[connection.recv()] = connection
        self.all += [others[rank] for rank in range(1, ranks.num_ranks)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the connections after a run. After a failure they end with this process, which has yet to print it:
        torchrun ends every rank as soon as one has ended."""
        self._listener.close()
        if kind is None:
            for connection in self.all:
                connection.close()

    def broadcast(self, jobs: Sequence[Job] | None) -> None:
        """Send every rank its job; None where the config is wrong and there is nothing to do."""
        for index, connection in enumerate(self.all):
            connection.send_bytes(pickle.dumps(jobs[index] if jobs is not None else None))


def _listen(key: bytes, *, alone: bool) -> Listener:
    """Listen on a free port, for this host only where all ranks are on it; refuses connections without the key."""
    host = "127.0.0.1" if alone else "0.0.0.0"
    return Listener((host, 0), authkey=key, backlog=1024)


def _socket_of(listener: Listener) -> socket.socket:
    """The listening socket: the only way to give ``accept`` a time limit."""
    found: socket.socket = listener._listener._socket  # type: ignore[attr-defined]
    return found


def _lead(session: Session, connections: _Connections, store: Store) -> None:
    """Coordinate in a thread while this process runs stage 0."""
    jobs = jobs_of(session)
    connections.broadcast(jobs)
    timeout_s = session.resolved.config.run.timeout_s

    def give_up(error: BaseException) -> None:
        note_failure(session.out, session.recorder, error)
        shutil.rmtree(session.folder, ignore_errors=True)
        sys.stderr.write(f"launch.py: {error}\n")
        sys.stderr.flush()
        os._exit(1)

    coordination = _Coordination(Coordinator(session.run_state, connections.all, (), timeout_s), give_up)
    connections.own.recv_bytes()  # its own job, which it knows
    link = ControlLink(connections.own, 0, orphaned=lambda: None)
    try:
        _run_stage(jobs[0], link, store)
    except BaseException as error:
        raise coordination.cause(error) from None
    coordination.join(timeout_s, session.placement.num_stages)
    link.close()


class _Coordination:
    """The coordinator in a thread beside this process's own stage.

    When it fails, the main thread may be waiting for a neighbour that is gone. An interrupt ends any wait in Python,
    so it interrupts the main thread, unless that has noticed by itself. A wait inside torch is not interrupted: then
    ``give_up`` ends the process.
    """

    def __init__(self, coordinator: Coordinator, give_up: Callable[[BaseException], None]) -> None:
        self._coordinator = coordinator
        self._give_up = give_up
        self._interrupted = threading.Event()
        self._failure: BaseException | None = None
        self._noticed = False
        signal.signal(signal.SIGINT, self._interrupt)
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._coordinator.run()
        except BaseException as error:
            self._failure = error
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if not self._interrupted.wait(_NOTICE_S):
                self._give_up(error)

    def _interrupt(self, *_: object) -> None:
        """Handle the interrupt, in the main thread: nothing comes between the test of the flag and the raise."""
        self._interrupted.set()
        if not self._noticed:
            raise KeyboardInterrupt

    def cause(self, error: BaseException) -> BaseException:
        """The coordinator's error where there is one, for it knows which stage failed first; else ``error``."""
        self._noticed = True
        self._interrupted.set()
        if isinstance(error, KeyboardInterrupt) and self._failure is None:
            return error  # the user's own
        self._thread.join(_REPORT_S)
        return self._failure or error

    def join(self, timeout: float, num_stages: int) -> None:
        """Wait for the other stages, after this process's own has ended.

        Raises:
            WorkerFailed: one failed, or did not end in time.
        """
        try:
            self._thread.join(timeout)
        except KeyboardInterrupt as error:
            raise self.cause(error) from None
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise WorkerFailed(
                num_stages - 1, num_stages,
                f"it or another stage did not end within {timeout:.0f} s of stage 0 (run.timeout_s). Raise it.",
            )  # fmt: skip


def _follow(ranks: Ranks, store: Store) -> None:
    """Ask rank 0 for a job and do it, on any other rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides what an interrupt means
    host, port, key = pickle.loads(bytes.fromhex(store.get("control").decode()))
    connection = Client((host, port), authkey=key)
    connection.send(ranks.rank)
    try:
        data = connection.recv_bytes()
    except EOFError:
        raise SystemExit(1) from None
    try:
        job: Job | None = pickle.loads(data)
    except Exception as error:  # a module of the user's that cannot be imported here
        connection.send(("failed", failure(ranks.rank, error)))
        connection.poll(_REPORT_S)
        raise SystemExit(1) from None
    if job is None:
        connection.poll(_REPORT_S)  # the end of rank 0, which has the message to print
        raise SystemExit(2)
    link = ControlLink(connection, job.stage_index)
    try:
        _run_stage(job, link, store)
    except Exception:
        # Reported to rank 0 already, with its traceback; the listener notices the end of rank 0, and ends this.
        time.sleep(_REPORT_S)
        os._exit(1)
    link.close()


def _run_stage(job: Job, link: ControlLink, store: Store) -> None:
    """Run one stage, within a process group where its transport needs one."""
    if job.needs_group:
        backend = "gloo" if job.endpoint.device == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(
            backend, store=PrefixStore("group", store), rank=job.stage_index, world_size=job.num_stages,
            timeout=_GROUP_TIMEOUT,
        )  # fmt: skip
    run_stage(job, link)
    if job.needs_group:
        dist.destroy_process_group()
