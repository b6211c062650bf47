"""Messages as bytes: nothing is lost, and nothing but data comes out."""

import math
import pickle
import struct
from dataclasses import replace
from multiprocessing import Pipe

import pytest

from pipeline.schedules.plan import BlockMode, Choice, Plan
from pipeline.schedules.schedule import Parallel
from workers import messages

PLAN = Plan(3, (BlockMode.FROZEN, BlockMode.TRAIN, BlockMode.IDLE), (0, 2, 0), source=1, store=True, evaluate=False)


CHOICES = Choice(None, 0), Choice(2, 3), Choice(1, 4, restore=1, scores_test=True)


@pytest.mark.parametrize(
    "plan", [PLAN, Parallel(2, 3).plan(1, ()), None, *(replace(PLAN, choice=choice) for choice in CHOICES)]
)
def test_plans_come_back(plan):
    topic, body = messages.decode(messages.encode("plan", (3, plan)))
    assert topic == "plan" and body == (3, plan)


def test_every_float_comes_back_bit_for_bit():
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, math.pi * 1e-200, math.inf, -math.inf]
    values += [struct.unpack("<d", struct.pack("<Q", 0x3FF0000000000000 + 12345678901 * n))[0] for n in range(100)]
    _, found = messages.decode(messages.encode("epoch", values))
    assert [struct.pack("<d", v) for v in found] == [struct.pack("<d", v) for v in values]
    assert math.isnan(messages.decode(messages.encode("epoch", math.nan))[1])


def test_blocks_are_numbers_again_in_a_result():
    body = {"row": {"stage": 1}, "digests": {0: "ab", 11: "cd"}, "steps": 3, "folder": "/x/é"}
    assert messages.decode(messages.encode("result", body)) == ("result", body)


def test_what_is_no_data_is_not_sent():
    with pytest.raises(TypeError, match="not JSON serializable"):
        messages.encode("epoch", object())


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xff", b"[]", b"3", b'["a"]', b'["a", 1, 2]', b"[1, 2]", b'["plan", 3]', b'["plan", [0, {"modes": 1}]]',
     b'["plan", [0, {"epoch": 0, "modes": ["fly"], "lr_epochs": []}]]', b'["result", []]', b'["result", {}]',
     b"[" * 100_000, pickle.dumps(("bye", None))],
)  # fmt: skip
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError, match="a message cannot be read"):
        messages.decode(data)


def test_a_message_over_a_line():
    here, there = Pipe()
    messages.send(here, "progress", {"loss": None})
    assert messages.receive(there) == ("progress", {"loss": None})
    here.close()
    with pytest.raises(EOFError):
        messages.receive(there)
    there.close()
