"""The coordinator: hands out plans, collects reports, notices the dead.

It runs in the parent process, or as a thread of rank 0 under torchrun; it never touches a tensor, and no stage ever
waits for it except for a plan that depends on results.
"""

import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.errors import ConfigError, WorkerFailed
from pipeline.records.reports import StageFailure
from pipeline.records.run_state import RunState
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
    ) -> None:
        self._run_state = run_state
        self._open = dict(enumerate(links))
        self._sentinels = dict(zip(sentinels, range(len(sentinels)), strict=False))
        self._num_stages = len(links)
        self._watch = StageWatch(self._num_stages, timeout_s, start_timeout_s, identities or {})
        self._how_ended = how_ended
        self._hosts = hosts or StageHosts((0,) * len(links), ("",))
        self._failed: dict[int, StageFailure] = {}
        self._beaten = self._looked = time.monotonic()

    def run(self) -> None:
        """Until every stage has sent its result.

        Raises:
            WorkerFailed: a stage raised or died, is stopped, hangs, or is lost.
            ConfigError: a stage found that the user's data or module is wrong.
            SystemExit: every stage was told to end.
        """
        while not self._run_state.is_complete:
            for event in wait([*self._open.values(), *self._sentinels], timeout=_LOOK_S):
                self._take(event)
            if self._failed:
                self._raise_first()
            self._look_after()
        for link in self._open.values():
            _send(link, "bye", None)

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

    def _accusation(self, stage: int, reason: str) -> WorkerFailed:
        """The error of a stage that is lost, with its host where there are several."""
        where = f"{self._hosts.text(stage)}: " if self._hosts.are_several else ""
        return WorkerFailed(stage, self._num_stages, where + reason, is_lost=True)

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
            self._ended(self._sentinels.pop(event))
            return
        stage = next((s for s, link in self._open.items() if link is event), None)
        if stage is None:
            return
        try:
            topic, body = messages.receive(event)
        except (EOFError, OSError):
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
            for event in wait([*self._open.values(), *self._sentinels], timeout=0.1):
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
        raise WorkerFailed(cause["stage"], self._num_stages, cause["text"], is_lost=is_lost)


    def _gone(self, stage: int) -> str | None:
        """What to say where every stage of a host has died; their lines end one after another."""
        deadline = time.monotonic() + SECONDARY_GRACE_S
        while time.monotonic() < deadline:
            dead = [s for s, failure in self._failed.items() if failure["kind"] == "died"]
            if set(self._hosts.stages_beside(stage)) <= set(dead):
                return GONE
            for event in wait([*self._open.values(), *self._sentinels], timeout=0.1):
                self._take(event)
        return None


def _send(link: Connection, topic: str, body: Any) -> None:
    """A stage that has ended is noticed where its end is read, not here."""
    try:
        messages.send(link, topic, body)
    except OSError:
        logger.debug("a stage had ended before it could be told")
