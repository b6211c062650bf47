"""Messages between a stage and the coordinator, as bytes: data, never objects.

Each is a JSON list of a topic and a body. JSON keeps every float exactly, NaN and the infinities included; what it
cannot tell apart, plans and the numbers of blocks, is put back by topic.
"""

import json
import traceback
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from pipeline.errors import DiskError
from pipeline.records.reports import StageFailure
from pipeline.schedules.plan import BlockMode, Choice, Plan

__all__ = ["Message", "decode", "encode", "failure", "receive", "send"]

Message = tuple[str, Any]
"""A topic and a body."""

_MAX_BYTES = 2**28
"""Of one message: a sane report has kilobytes, and a peer must not be able to ask for all memory."""


def encode(topic: str, body: Any) -> bytes:
    """The message as bytes.

    Args:
        topic: ``plan``, whose body is an epoch and a plan or None, or any other.
        body: numbers, strings, lists, dictionaries and None.

    Raises:
        TypeError: ``body`` holds anything else.
    """
    if topic == "plan":
        epoch, plan = body
        body = [epoch, None if plan is None else _plan_table(plan)]
    return json.dumps([topic, body]).encode("utf8")


def decode(data: bytes) -> Message:
    """The message in ``data``.

    Raises:
        ValueError: there is none.
    """
    try:
        topic, body = json.loads(data)
        if not isinstance(topic, str):
            raise TypeError(f"a topic is text, not {topic!r}")
        if topic == "plan":
            epoch, table = body
            body = (int(epoch), None if table is None else _plan(table))
        elif topic == "result":
            body["digests"] = {int(block): text for block, text in body["digests"].items()}
        return topic, body
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"a message cannot be read ({type(error).__name__}: {error})") from error


def send(connection: Connection, topic: str, body: Any) -> None:
    """Send a message; see :func:`encode`."""
    connection.send_bytes(encode(topic, body))


def receive(connection: Connection) -> Message:
    """Wait for a message.

    Raises:
        EOFError, OSError: the other side is gone.
        ValueError: what came is no message.
    """
    return decode(connection.recv_bytes(_MAX_BYTES))


def failure(stage_index: int, error: BaseException) -> StageFailure:
    """The report of an error; called where it is handled."""
    return {
        "stage": stage_index, "kind": type(error).__name__, "message": str(error),
        "text": str(error) if isinstance(error, DiskError) else traceback.format_exc(),
    }  # fmt: skip


def _plan_table(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    return {
        "epoch": plan.epoch, "modes": [mode.value for mode in plan.modes], "lr_epochs": list(plan.lr_epochs),
        "source": plan.source, "store": plan.store, "evaluate": plan.evaluate,
        "choice": None if plan.choice is None else asdict(plan.choice),
    }  # fmt: skip


def _plan(table: dict[str, Any]) -> Plan:
    """The plan of :func:`_plan_table`."""
    modes = tuple(BlockMode(mode) for mode in table["modes"])
    choice = None if table["choice"] is None else Choice(**table["choice"])
    return Plan(**{**table, "modes": modes, "lr_epochs": tuple(table["lr_epochs"]), "choice": choice})
