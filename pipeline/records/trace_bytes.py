"""A stage's trace as bytes: a line of JSON that says what follows, then the recording's numbers as they lie in memory.

A part of a trace is read from a folder that others may write to, so it is data and nothing else.
"""

import json
import sys
from array import array
from typing import Any

from pipeline.records.chrome_trace import StageTrace
from pipeline.records.time_budget import Activity
from pipeline.records.traced_budget import Recording

__all__ = ["trace_from_bytes", "trace_to_bytes"]

_FORMAT = "onward trace 1"
_HEADER_BYTES = 65536
_MAX_STAGES = 2**16
_WIDTH = 8
"""Bytes of a number, but for the codes of one byte each."""


def trace_to_bytes(trace: StageTrace) -> bytes:
    """The trace as bytes."""
    recording = trace.recording
    header = {
        "format": _FORMAT, "byteorder": sys.byteorder, "stage": trace.stage, "num_stages": trace.num_stages,
        "blocks": [trace.blocks.start, trace.blocks.stop], "os_pid": trace.os_pid, "host": trace.host,
        "zero_s": trace.zero_s, "aligned_by": trace.aligned_by, "end_s": recording.end_s,
        "is_full": recording.is_full, "intervals": len(recording.codes), "marks": len(recording.marks),
        "flows": len(recording.flows), "name": trace.name,
    }  # fmt: skip
    numbers = (recording.starts_s.tobytes(), recording.marks.tobytes(), recording.flows.tobytes())
    return b"".join([json.dumps(header).encode("utf8"), b"\n", *numbers, recording.codes])


def trace_from_bytes(data: bytes) -> StageTrace:
    """The trace that :func:`trace_to_bytes` has written.

    Raises:
        ValueError: ``data`` holds anything else.
    """
    line, _, body = data.partition(b"\n")
    try:
        header = json.loads(line[:_HEADER_BYTES])
        return _trace(header, body)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"no part of a trace ({type(error).__name__}: {error})") from error


def _trace(header: dict[str, Any], body: bytes) -> StageTrace:
    """The trace of a header and what follows it."""
    if header["format"] != _FORMAT:
        raise ValueError(f"the format is {header['format']!r}, and not {_FORMAT!r}")
    intervals, marks, flows = (_count(header[key]) for key in ("intervals", "marks", "flows"))
    sizes = [_WIDTH * intervals, _WIDTH * marks, _WIDTH * flows, intervals]
    if sum(sizes) != len(body) or marks % 4 or flows % 3:
        raise ValueError(f"{len(body)} bytes follow the header, and not {sum(sizes)}")
    parts = []
    for size in sizes:
        parts.append(body[:size])
        body = body[size:]
    swapped = header["byteorder"] != sys.byteorder
    starts_s, mark_numbers, flow_numbers = (
        _numbers(code, part, swapped) for code, part in zip("dqq", parts, strict=False)
    )
    recording = Recording(
        starts_s, bytearray(parts[3]), mark_numbers, flow_numbers, float(header["end_s"]), bool(header["is_full"])
    )
    if any(code >= len(Activity) for code in recording.codes):
        raise ValueError("an activity is unknown")
    if any(not 0 <= flow_numbers[i] < intervals for i in range(0, flows, 3)):
        raise ValueError("a message belongs to no interval")
    stage, num_stages = _count(header["stage"]), _count(header["num_stages"])
    if not stage < num_stages <= _MAX_STAGES:
        raise ValueError(f"there is no stage {stage} of {num_stages}")
    return StageTrace(
        stage, num_stages, range(*map(int, header["blocks"])),
        int(header["os_pid"]), str(header["host"]), float(header["zero_s"]), str(header["aligned_by"]), recording,
        str(header.get("name", "")),
    )  # fmt: skip


def _numbers(code: str, data: bytes, swapped: bool) -> "array[Any]":
    """The numbers in ``data``; of a host with the other order of bytes where ``swapped``."""
    numbers: array[Any] = array(code)
    numbers.frombytes(data)
    if swapped:
        numbers.byteswap()
    return numbers


def _count(value: Any) -> int:
    """A number of things."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
