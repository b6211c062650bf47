"""Chrome trace of a run: the activities of all stages on one time line.

The format is a JSON object with ``traceEvents``, which Perfetto opens: a process row and a thread row per stage, a
slice for each interval, an arrow for every message, and how many messages were in flight.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.records.time_budget import Activity
from pipeline.records.traced_budget import Recording
from pipeline.schedules.position import EVALUATION, NOWHERE, Position

__all__ = ["StageTrace", "chrome_events", "overlap_seconds"]

Event = dict[str, Any]


@dataclass(frozen=True)
class StageTrace:
    """A stage's recording, and whose it is."""

    stage: int
    num_stages: int
    blocks: range
    os_pid: int
    host: str
    zero_s: float
    """The stage's clock at the origin of the run's time line."""
    aligned_by: str
    """The source of that: the clock itself, which the processes of a host share, or by the wall clock."""
    recording: Recording
    name: str = ""
    """Of its rows; empty for ``stage 1`` and the like."""

    @property
    def pid(self) -> int:
        """Of its rows: not the process's own, for stages may share a process, or have the same one on two hosts; and
        not 0, which is the idle process in Perfetto."""
        return self.stage + 1

    def at_ns(self, reading_s: float) -> int:
        """Nanoseconds since the origin."""
        return round((reading_s - self.zero_s) * 1e9)


def chrome_events(traces: Sequence[StageTrace]) -> Iterator[Event]:
    """The events of a run.

    Args:
        traces: of its stages, of all or of those that there are.
    """
    for trace in traces:
        yield from _rows(trace)
        yield from _slices(trace)
    messages = _messages(traces)
    yield from _arrows(messages)
    yield from _queues(messages)


def _rows(trace: StageTrace) -> Iterator[Event]:
    """Names of the stage's two rows."""
    row = {"ph": "M", "pid": trace.pid, "tid": trace.pid}
    name = f"{trace.name or f'stage {trace.stage}'} (blocks {trace.blocks.start}-{trace.blocks.stop - 1})"
    about = {"stage": trace.stage, "os_pid": trace.os_pid, "host": trace.host}
    yield {**row, "name": "process_name", "args": {"name": name, **about}}
    yield {**row, "name": "process_sort_index", "args": {"sort_index": trace.stage}}
    yield {**row, "name": "thread_name", "args": {"name": "activity"}}


def _slices(trace: StageTrace) -> Iterator[Event]:
    """A complete event for each interval.

    Each ends a nanosecond before the next begins: readers that multiply microseconds by a thousand and cut off the
    rest would find some of them overlapping, and draw them one inside the other.
    """
    marks, flows = trace.recording.marks, trace.recording.flows
    positions = {marks[i]: Position(*marks[i + 1 : i + 4]) for i in range(0, len(marks), 4)}
    peers = {flows[i]: {"to" if flows[i + 2] else "from": flows[i + 1]} for i in range(0, len(flows), 3)}
    args: dict[str, int] = {}
    for index, (start_s, end_s, activity) in enumerate(trace.recording.intervals()):
        if index in positions:
            args = _args(positions[index])
        start, end = trace.at_ns(start_s), trace.at_ns(end_s)
        if end > start:
            yield {
                "ph": "X", "name": activity.value, "cat": "stage", "pid": trace.pid, "tid": trace.pid,
                "ts": start / 1e3, "dur": (end - start - 1) / 1e3, "args": {**args, **peers.get(index, {})},
            }  # fmt: skip


def _args(position: Position) -> dict[str, int]:
    """Details of a time slice, shown when it is selected."""
    epoch, step, microbatch = position
    if position == NOWHERE:
        return {}
    if microbatch == EVALUATION:
        return {"epoch": epoch, "test_batch": step}
    return {"epoch": epoch, "step": step, "microbatch": microbatch}


@dataclass(frozen=True)
class _Message:
    """One message, from the beginning of the copying at the sender to the end of it at the receiver."""

    src: int
    dst: int
    sent_ns: int
    received_ns: int


def _messages(traces: Sequence[StageTrace]) -> list[_Message]:
    """Messages of which both ends were recorded. First in first out, so the n-th sent is the n-th received.

    The times are those that cannot be in the wrong order: copying in begins before anything can arrive.
    """
    sent: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    received: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for trace in traces:
        starts, flows = trace.recording.starts_s, trace.recording.flows
        for i in range(0, len(flows), 3):
            index, peer = flows[i], flows[i + 1]
            if flows[i + 2]:
                sent[trace.stage, peer].append(trace.at_ns(starts[index]))
            else:
                end = starts[index + 1] if index + 1 < len(starts) else trace.recording.end_s
                received[peer, trace.stage].append(max(trace.at_ns(end) - 2, trace.at_ns(starts[index])))
    return [
        _Message(src, dst, start, end)
        for (src, dst), starts_ns in sent.items()
        for start, end in zip(starts_ns, received[src, dst], strict=False)
    ]


def _arrows(messages: Iterable[_Message]) -> Iterator[Event]:
    """From the copying at the sender to the copying at the receiver, behind whatever wait there was."""
    for number, m in enumerate(messages):
        flow = {"name": "message", "cat": "message", "id": number}
        yield {"ph": "s", **flow, "pid": m.src + 1, "tid": m.src + 1, "ts": m.sent_ns / 1e3}
        yield {"ph": "f", "bp": "e", **flow, "pid": m.dst + 1, "tid": m.dst + 1, "ts": m.received_ns / 1e3}


def _queues(messages: Iterable[_Message]) -> Iterator[Event]:
    """Messages in flight on every edge, as a counter of the receiving stage."""
    changes: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for m in messages:
        changes[m.src, m.dst] += [(m.sent_ns, 1), (m.received_ns, -1)]
    for (src, dst), steps in changes.items():
        counter = {"ph": "C", "name": f"messages {src} to {dst}", "pid": dst + 1, "tid": dst + 1}
        count = 0
        for at_ns, change in sorted(steps):
            count += change
            yield {**counter, "ts": at_ns / 1e3, "args": {"count": count}}


def overlap_seconds(trace: Mapping[str, Any], stage_a: int, stage_b: int, activity: Activity) -> float:
    """Seconds during which both stages were in ``activity``.

    Args:
        trace: what ``trace.json`` holds.
        stage_a, stage_b: of the pipeline.
        activity: whose intervals are compared.
    """
    ours, theirs = (_intervals(trace, stage, activity) for stage in (stage_a, stage_b))
    total, j = 0.0, 0
    for start, end in ours:
        while j < len(theirs) and theirs[j][1] <= start:
            j += 1
        k = j
        while k < len(theirs) and theirs[k][0] < end:
            total += min(end, theirs[k][1]) - max(start, theirs[k][0])
            k += 1
    return total / 1e6


def _intervals(trace: Mapping[str, Any], stage: int, activity: Activity) -> list[tuple[float, float]]:
    """Start and end of a stage's intervals, in microseconds, in order."""
    return sorted(
        (e["ts"], e["ts"] + e["dur"]) for e in trace["traceEvents"]
        if e["ph"] == "X" and e["pid"] == stage + 1 and e["name"] == activity.value
    )  # fmt: skip
