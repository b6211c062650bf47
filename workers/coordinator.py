"""The coordinator: hands out plans, collects reports, notices the dead.

It runs in the parent process, or as a thread of rank 0 under torchrun; it never touches a tensor, and no stage ever
waits for it except for a plan that depends on results.
"""

import logging
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from pipeline.errors import ConfigError, WorkerFailed
from pipeline.records.reports import StageFailure
from pipeline.records.run_state import RunState
from pipeline.schedules.replicas import Replicas
from workers import messages
from workers.control import BEAT_S
from workers.host.identity import ProcessIdentity
from workers.hosts import GONE, StageHosts
from workers.watch import StageWatch

__all__ = ["Coordinator"]

SECONDARY_GRACE_S = 1.0
"""A stage that lost its neighbour may report before the neighbour's own report or end of file arrives."""

_LOOK_S = 0.5
"""Seconds between two looks at what has become of silent stages."""
_CONSEQUENCES = ("TransportTimeout", "interrupted")
"""Kinds of failures that may come before the news of their cause."""

logger = logging.getLogger(__name__)


class Coordinator:
    """Serves the stages at the other end of ``links`` until all have ended.

    Args:
        run_state: decides and remembers.
        links: a connection to each stage, in order.
        sentinels: of their processes where this process started them: readable when one has ended.
        timeout_s: longest time that a stage may be in one activity, once all are ready; see :class:`StageWatch`.
        start_timeout_s: longest time until they are.
        how_ended: for the message about a stage that died: `` (exit status 1)``.
        identities: of the stages' processes, as far as they are known.
        hosts: of the stages; by default there is one.
        replicas: processes of each stage, a link to each; None for one each.
    """

    def __init__(
        self,
        run_state: RunState,
        links: Sequence[Connection],
        sentinels: Sequence[int],
        timeout_s: float,
        how_ended: Callable[[int], str] = lambda stage: "",
        identities: Mapping[int, ProcessIdentity] | None = None,
        start_timeout_s: float = 3000.0,
        hosts: StageHosts | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self._run_state = run_state
        self._open = dict(enumerate(links))
        self._sentinels = dict(zip(sentinels, range(len(sentinels)), strict=False))
        self._replicas = replicas or Replicas.single(len(links))
        self._watch = StageWatch(len(links), timeout_s, start_timeout_s, identities or {})
        self._how_ended = how_ended
        self._hosts = hosts or StageHosts((0,) * len(links), ("",))
        self._failed: dict[int, StageFailure] = {}
        self._beaten = self._looked = time.monotonic()
        self._stage_of = {link: stage for stage, link in self._open.items()}
        # Kept registered: to hand all lines of 64 stages over at every report took more time than the reports.
        self._selector = selectors.DefaultSelector()
        events: list[Connection | int] = [*self._open.values(), *self._sentinels]
        for event in events:
            self._selector.register(event, selectors.EVENT_READ)

    def run(self) -> None:
        """Until every stage has sent its result.

        Raises:
            WorkerFailed: a stage raised or died, is stopped, hangs, or is lost.
            ConfigError: a stage found that the user's data or module is wrong.
            SystemExit: every stage was told to end.
        """
        with self._selector:
            while not self._run_state.is_complete:
                for event in self._ready(_LOOK_S):
                    self._take(event)
                if self._failed:
                    self._raise_first()
                self._look_after()
        for link in self._open.values():
            _send(link, "bye", None)

    @property
    def looked(self) -> float:
        """When it last looked after the stages, by ``time.monotonic``."""
        return self._looked

    def _ready(self, timeout: float) -> list[Any]:
        """Lines with something to read, and sentinels of processes that have ended."""
        return [key.fileobj for key, _ in self._selector.select(timeout)]

    def _look_after(self) -> None:
        """Beats, and names a stage that has fallen silent or does not go on."""
        now = time.monotonic()
        if now - self._beaten >= BEAT_S:
            self._beaten = now
            for link in self._open.values():
                _send(link, "beat", None)
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        # What a stage has said meanwhile is read before it is accused.
        suspect = self._watch.suspect(s for s in self._running() if not self._open[s].poll())
        if suspect is not None:
            raise self._accusation(suspect.stage, suspect.reason)

    def _accusation(self, process: int, reason: str) -> WorkerFailed:
        """The error of a process that is lost, with its host where there are several."""
        where = f"{self._hosts.text(process, self._replicas)}: " if self._hosts.are_several else ""
        return self._failure(process, where + reason, is_lost=True)

    def _failure(self, process: int, reason: str, *, is_lost: bool) -> WorkerFailed:
        """The failure of a process, under the name of its stage and replica."""
        stage, _ = self._replicas.place(process)
        name = self._replicas.name(process)
        if not self._replicas.is_single and " -> stage " in reason:  # edges know the numbers of processes only
            names = (f"{p} is {self._replicas.name(p)}" for p in range(self._replicas.num_processes))
            reason = f"{reason.rstrip()}\nA number of a stage at an edge is that of a process: {'; '.join(names)}."
        return WorkerFailed(stage, self._replicas.num_stages, reason, is_lost=is_lost, name=name)

    def _running(self) -> list[int]:
        """Stages that have neither ended nor failed."""
        return [s for s in self._open if s not in self._run_state.results and s not in self._failed]

    def _publish(self) -> None:
        """Sends every plan that has become known."""
        for plan in self._run_state.new_plans():
            for link in self._open.values():
                _send(link, "plan", plan)

    def _take(self, event: Any) -> None:
        """One report, or the end of a process."""
        if isinstance(event, int):
            self._selector.unregister(event)
            self._ended(self._sentinels.pop(event))
            return
        stage = self._stage_of[event]
        try:
            topic, body = messages.receive(event)
        except (EOFError, OSError):
            self._selector.unregister(event)
            del self._open[stage]
            self._ended(stage)
            return
        except ValueError as error:
            self._failed[stage] = {"stage": stage, "kind": "ValueError", "message": str(error), "text": str(error)}
            return
        if topic == "beat":
            self._watch.beat(stage, body)
        else:
            self._watch.hear(stage)
            self._hear(stage, topic, body)

    def _hear(self, stage: int, topic: str, body: Any) -> None:
        """One report."""
        if topic == "progress":
            self._run_state.progress(body)
        elif topic == "epoch":
            self._run_state.epoch(body)
            self._publish()
        elif topic == "saved":
            self._run_state.saved(body)
        elif topic == "result":
            self._run_state.result(body)
        elif topic == "ready":
            self._watch.ready(stage)
            if self._watch.all_ready:
                self._run_state.ready()
                self._publish()
        else:
            self._failed[stage] = body

    def _ended(self, stage: int) -> None:
        """A process or a line has ended: expected after a result, else the stage is dead."""
        if stage not in self._run_state.results and stage not in self._failed:
            link = self._open.get(stage)
            if link is not None and link.poll():
                return  # its last report is still in the connection
            text = f"its process died without a word{self._how_ended(stage)}"
            self._failed[stage] = {"stage": stage, "kind": "died", "message": text, "text": text}

    def _raise_first(self) -> None:
        """Raises the failure that came first in the order of causes: a lost neighbour is a consequence."""
        deadline = time.monotonic() + SECONDARY_GRACE_S
        while all(f["kind"] in _CONSEQUENCES for f in self._failed.values()) and time.monotonic() < deadline:
            for event in self._ready(0.1):
                self._take(event)
        causes = [f for f in self._failed.values() if f["kind"] not in _CONSEQUENCES]
        if not causes and any(f["kind"] == "interrupted" for f in self._failed.values()):
            raise SystemExit(128 + signal.SIGTERM)
        if not causes and (suspect := self._watch.behind(self._running())) is not None:
            raise self._accusation(suspect.stage, suspect.reason)
        # Prefer a stage's traceback to a bare exit status.
        cause = min(causes or self._failed.values(), key=lambda f: f["kind"] == "died")
        if cause["kind"] == "ConfigError":  # found late, in the data itself, and still the user's to fix
            raise ConfigError(cause["message"])
        if cause["kind"] == "died" and self._hosts.are_several:
            raise self._accusation(cause["stage"], self._gone(cause["stage"]) or cause["text"])
        is_lost = cause["kind"] in ("died", "TransportTimeout")
        raise self._failure(cause["stage"], cause["text"], is_lost=is_lost)


    def _gone(self, stage: int) -> str | None:
        """What to say where every stage of a host has died; their lines end one after another."""
        deadline = time.monotonic() + SECONDARY_GRACE_S
        while time.monotonic() < deadline:
            dead = [s for s, failure in self._failed.items() if failure["kind"] == "died"]
            if set(self._hosts.stages_beside(stage)) <= set(dead):
                return GONE
            for event in self._ready(0.1):
                self._take(event)
        return None


def _send(link: Connection, topic: str, body: Any) -> None:
    """A stage that has ended is noticed where its end is read, not here."""
    try:
        messages.send(link, topic, body)
    except OSError:
        logger.debug("a stage had ended before it could be told")
