"""Rank 0's lines to all ranks under torchrun: one for reports to each, one for files where there are other hosts."""

import json
import os
import pickle
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from torch.distributed.distributed_c10d import Store

from pipeline.errors import ConfigError
from workers import messages
from workers.control_port import ControlPort
from workers.freight import FreightDesk
from workers.host.identity import ProcessIdentity
from workers.host.interfaces import use_interface
from workers.host.resources import gpu_names
from workers.hosts import StageHosts
from workers.job import Job
from workers.last_words import end_stopped
from workers.line import Line
from workers.ranks import CONTROL, Ranks
from workers.run_key import KeyFile, given_key

__all__ = ["RankLines"]

_UNKNOWN = ProcessIdentity("", 0, 0)
"""Of a rank that has not come."""


class RankLines:
    """Rank 0's lines to every rank's stage, its own included.

    Args:
        store: torchrun's.
        num_ranks: of the run.
        alone: torchrun has started all ranks on this host.
        start_timeout_s: longest wait for the others.
        end: why there will be no run, where that is known already: the ranks that come are told.

    Raises:
        WorkerFailed: a rank has not come.
    """

    def __init__(
        self, store: Store, num_ranks: int, start_timeout_s: float, *, alone: bool, end: Exception | None = None
    ) -> None:
        Ranks.have_met = True
        self._desk: FreightDesk | None = None
        self._mark: Path | None = None
        self._has_answered = False
        self.hosts = StageHosts((), ())
        here, self.own = Pipe()
        key, file = given_key(alone=alone), None
        if key is None:
            file = KeyFile()
            key = file.key
        self._port = ControlPort(key, "127.0.0.1" if alone else "", num_ranks, with_freight=not alone)
        host = "127.0.0.1" if alone else os.environ.get("MASTER_ADDR", "localhost")
        try:
            about = {"host": host, "port": self._port.port, "key_file": str(file.path) if file is not None else None}
            store.set(CONTROL, json.dumps(about))
            self._port.wait_for_ranks(start_timeout_s)
        except BaseException as error:
            self._know(self._port.lines, num_ranks)
            self.tell(end or error)
            raise
        finally:
            self._port.close()
            store.delete_key(CONTROL)  # a rank of a later start would knock where nobody is
            if file is not None:
                file.remove()
        self._know(self._port.lines, num_ranks)
        if end is not None:
            self.tell(end)
        self.all: list[Connection] = [here, *(line.connection for _, line in sorted(self._lines.items()))]
        others = [rank for rank in self._lines if self.hosts.index[rank] != 0]
        if others:
            self.hosts = replace(self.hosts, address=self._lines[others[0]].address)
            use_interface(self.hosts.address)

    def _know(self, lines: Mapping[int, Line], num_ranks: int) -> None:
        """Notes the ranks that have come, and the hosts as far as they are known."""
        self._lines = lines
        self.identities = {rank: line.identity for rank, line in lines.items()}
        who = {0: ProcessIdentity.own(), **self.identities}
        self.hosts = StageHosts.of([who.get(rank, _UNKNOWN) for rank in range(num_ranks)])

    @property
    def local_ranks(self) -> tuple[int, ...]:
        """Each rank's number among those that its agent has started; empty where they have not said it."""
        told = [line.about.get("local_rank") for _, line in sorted(self._lines.items())]
        numbers = [number for number in told if isinstance(number, int)]
        return (int(os.environ.get("LOCAL_RANK", "0")), *numbers) if len(numbers) == len(told) else ()

    @property
    def gpus(self) -> tuple[tuple[str, ...], ...]:
        """Names of the GPUs that each rank sees; empty where they have not said them."""
        told = [line.about.get("gpus") for _, line in sorted(self._lines.items())]
        seen = [tuple(map(str, names)) for names in told if isinstance(names, list)]
        return (gpu_names(), *seen) if len(seen) == len(told) else ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        """Close the lines after a run. After a failure they end with this process, which has yet to print it:
        torchrun ends every rank as soon as one has ended."""
        if self._desk is not None and kind is None:
            self._desk.close()
        self._unmark()
        if kind is None:
            for connection in self.all:
                connection.close()
        else:
            self.tell(error)
            end_stopped(self.identities.values())

    def tell(self, error: BaseException | None) -> None:
        """Tell the stages of other hosts why the run ends: they have a terminal, or a log, of their own.

        Ranks that still wait for their jobs hear before that there are none: what comes first has to be sealed.
        """
        self._unmark()  # this process may end without leaving this
        if not self._has_answered:
            self._broadcast([None] * len(self.hosts.index))
        code = 2 if isinstance(error, ConfigError) else 1
        text = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else str(error)
        for rank, line in self._lines.items():
            if self.hosts.index[rank] != 0:
                with suppress(OSError):
                    messages.send(line.connection, "verdict", {"text": text, "code": code})

    def share_out(self, jobs: Sequence[Job]) -> Job:
        """Send every other rank its job, and return that of rank 0."""
        if self.hosts.are_several:
            jobs = [self._placed(job, self._marked(jobs[0].out)) for job in jobs]
            freight = [line.connection for line in self._port.freight.values()]
            initial = jobs[0].resolved.initial
            places = (jobs[0].out, jobs[0].spare)
            self._desk = FreightDesk(freight, places, initial.folder if initial is not None else None)
        self._broadcast(jobs)
        return jobs[0]

    def _broadcast(self, jobs: Sequence[Job | None]) -> None:
        """Send every other rank what it waits for: its job, or that there is none."""
        self._has_answered = True
        identity = ProcessIdentity.own()
        for rank, line in self._lines.items():
            with suppress(OSError):  # dead already: the coordinator will notice
                line.send(pickle.dumps((identity, self.hosts, jobs[rank])))

    def _marked(self, out: Path) -> str | None:
        """Name of a file in the run's folder by which other hosts know the folder, where they share it."""
        if self._mark is None:
            mark = out / f".run-{secrets.token_hex(8)}"
            with suppress(OSError):  # a full disk: then nothing is taken to be shared
                mark.touch()
                self._mark = mark
        return self._mark.name if self._mark is not None else None

    def _unmark(self) -> None:
        """Removes that file."""
        if self._mark is not None:
            with suppress(OSError):
                self._mark.unlink(missing_ok=True)

    def _placed(self, job: Job, mark: str | None) -> Job:
        """A job that knows the hosts, and has the folder for sockets of its own one."""
        endpoint = replace(job.endpoint, hosts=self.hosts.index)
        if self.hosts.index[job.process] != 0:
            told = (self._lines[rank].about.get("folder") for rank in self.hosts.stages_beside(job.process))
            endpoint = replace(endpoint, folder=next((text for text in told if isinstance(text, str)), ""))
        return replace(job, endpoint=endpoint, mark=mark)
