"""Stages as processes of this host, started and watched by this process."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from pipeline.pickles import trusted
from workers import messages
from workers.control import ControlLink
from workers.host.fork_server import process_context
from workers.host.identity import ProcessIdentity
from workers.host.parent import die_with_parent
from workers.job import Job
from workers.messages import failure
from workers.worker import run_stage

__all__ = ["StageProcesses"]

STOP_GRACE_S = 3.0


class StageProcesses:
    """One process per job, from construction to :meth:`stop`.

    Args:
        jobs: of all stages, in order.
        main: what each process runs: called with its end of the line, over which its job comes, and the stage's
            index.
    """

    def __init__(self, jobs: Sequence[Job], main: Callable[[Connection, int], None] | None = None) -> None:
        context = process_context()
        self.links: list[Connection] = []
        self._processes: list[BaseProcess] = []
        try:
            for job in jobs:
                here, there = multiprocessing.Pipe()
                process = context.Process(  # type: ignore[attr-defined]
                    target=_begin, args=(main or _stage_main, there, job.stage_index),
                    name=f"stage-{job.stage_index}", daemon=True,
                )
                process.start()
                there.close()
                self.links.append(here)
                self._processes.append(process)
            for link, job in zip(self.links, jobs, strict=True):
                with suppress(BrokenPipeError, ConnectionResetError):  # dead already: the coordinator will notice
                    link.send_bytes(pickle.dumps(job))
        except BaseException:
            self.stop()
            raise

    @property
    def sentinels(self) -> list[int]:
        """Readable when the process of that stage has ended."""
        return [p.sentinel for p in self._processes]

    @property
    def identities(self) -> dict[int, ProcessIdentity]:
        """Of the processes that run, by stage."""
        found = {stage: ProcessIdentity.of(p.pid or 0) for stage, p in enumerate(self._processes)}
        return {stage: identity for stage, identity in found.items() if identity is not None}

    def how_ended(self, stage: int) -> str:
        """For a message about a stage that died: `` (pid 17, killed by SIGKILL)``."""
        process = self._processes[stage]
        process.join(1.0)
        code = process.exitcode
        if code is not None and code < 0:
            return f" (pid {process.pid}, killed by {signal.Signals(-code).name})"
        return f" (pid {process.pid}, exit status {code})"

    def join(self, timeout: float) -> None:
        """Waits for stages that have sent their results."""
        deadline = time.monotonic() + timeout
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Ends every process that still runs, kindly first; afterwards none is left."""
        for link in self.links:
            link.close()
        for process in self._processes:
            if process.is_alive():
                process.terminate()
        for identity in self.identities.values():
            if identity.is_stopped:  # it will not hear of it
                identity.kill()
        self.join(STOP_GRACE_S)
        for process in self._processes:
            if process.is_alive():
                process.kill()
        self.join(STOP_GRACE_S)


def _begin(main: Callable[[Connection, int], None], connection: Connection, stage_index: int) -> None:
    """A stage's process from its first line: ends with the fork server, which ends with the command."""
    die_with_parent()
    main(connection, stage_index)


def _stage_main(connection: Connection, stage_index: int) -> None:
    """A stage's process in a run."""
    # Ctrl-C reaches the whole terminal group; the parent decides what it means for the stages.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # Pickled by hand, so that a module that cannot be imported here is reported like any other failure.
        job = trusted(connection.recv_bytes())
        link = ControlLink(connection, stage_index)
    except EOFError:
        os._exit(1)
    except BaseException as error:
        messages.send(connection, "failed", failure(stage_index, error))
        os._exit(1)
    try:
        run_stage(job, link)
    except BaseException:
        # Reported already. Threads of a transport may wait for a peer that is gone: no orderly end for them.
        sys.stderr.flush()
        os._exit(1)
    link.close()
