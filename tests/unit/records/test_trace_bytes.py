"""A stage's trace as bytes, and what is made of bytes that are none."""

import json
import sys
from array import array
from dataclasses import replace

import pytest

from pipeline.records.chrome_trace import StageTrace
from pipeline.records.trace_bytes import trace_from_bytes, trace_to_bytes
from pipeline.records.traced_budget import Recording

RECORDING = Recording(
    array("d", [0.1, 1 / 3, 2.5]), bytearray([0, 1, 6]), array("q", [0, 1, 2, -1]), array("q", [2, 1, 1]), 3.25, True
)
TRACE = StageTrace(1, 3, range(2, 5), 4711, "a host", 0.1 + 0.2, "clock", RECORDING)
DATA = trace_to_bytes(TRACE)


def changed(**fields):
    """The same bytes under another header."""
    line, _, body = DATA.partition(b"\n")
    return json.dumps({**json.loads(line), **fields}).encode() + b"\n" + body


def test_a_trace_comes_back():
    assert trace_from_bytes(DATA) == TRACE
    empty = replace(TRACE, recording=Recording(array("d"), bytearray(), array("q"), array("q"), 0.0, False))
    assert trace_from_bytes(trace_to_bytes(empty)) == empty


def test_a_trace_of_a_host_with_the_other_order_of_bytes():
    other = "big" if sys.byteorder == "little" else "little"
    numbers = [array(a.typecode, a) for a in (RECORDING.starts_s, RECORDING.marks, RECORDING.flows)]
    for a in numbers:
        a.byteswap()
    body = b"".join(a.tobytes() for a in numbers) + RECORDING.codes
    assert trace_from_bytes(changed(byteorder=other).partition(b"\n")[0] + b"\n" + body) == TRACE


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "JSONDecodeError"),
        (b"{}\n", "KeyError: 'format'"),
        (b"[1]\n", "TypeError"),
        (b"[" * 60_000, "RecursionError|JSONDecodeError"),
        (changed(format="onward trace 9"), "the format is 'onward trace 9'"),
        (changed(intervals=-1), "-1 is no count"),
        (changed(intervals=1.5), "1.5 is no count"),
        (changed(intervals=10**15), "bytes follow the header"),
        (changed(marks=3, flows=4), "bytes follow the header"),
        (DATA[:-1], "bytes follow the header"),
        (changed(stage=3), "there is no stage 3 of 3"),
        (changed(num_stages=10**12), "there is no stage 1 of 1000000000000"),
        (changed(blocks=[1, 2, 0]), "range"),
        (changed(zero_s="x"), "could not convert string to float"),
        (DATA[:-1] + b"\x63", "an activity is unknown"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data, text):
    with pytest.raises(ValueError, match=f"no part of a trace .*({text})"):
        trace_from_bytes(data)


def test_a_message_of_no_interval_is_refused():
    forged = replace(TRACE, recording=replace(RECORDING, flows=array("q", [3, 1, 1])))
    with pytest.raises(ValueError, match="a message belongs to no interval"):
        trace_from_bytes(trace_to_bytes(forged))
