"""What ``--plan`` is asked: numbers of stages, hosts, a link, replicas; read from the command line."""

import math
import re
from dataclasses import dataclass

from pipeline.errors import ConfigError
from workers.flag_parser import whole_numbers

__all__ = ["PAYLOAD", "Link", "Question", "parse_link", "parse_replicas", "parse_stages"]

_MOST = 99_999
"""Stages, or replicas of one."""
_RATES = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "tbit": 1e12}
_TIMES = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
PAYLOAD = 1448 / 1514
"""Share of a link's rate that is left to messages: Ethernet, IP and TCP put 66 bytes of their own into each 1 514."""
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]+(?:/s)?)")


@dataclass(frozen=True)
class Link:
    """A link between two hosts."""

    bits_per_s: float = math.inf
    """As it is sold: headers included."""
    latency_s: float = 0.0

    @property
    def bytes_per_s(self) -> float:
        """Of messages."""
        return self.bits_per_s * PAYLOAD / 8


@dataclass(frozen=True)
class Question:
    """What is to be planned."""

    stages: tuple[int, ...]
    hosts: int = 1
    link: Link | None = None
    """Between hosts; with one host, between all stages. None: what this host's own transport takes."""
    replicas: str | tuple[int, ...] = (1,)
    """``auto``, one number for every stage, or one for each."""
    device_speed: float = 1.0
    """How many times as fast as this machine's the planned device computes."""


def parse_link(text: str) -> Link:
    """A link from ``1Gbit,50us``; the latency may be left out.

    Raises:
        ConfigError: it is none.
    """
    rate, _, latency = text.partition(",")
    bits = _quantity(rate, _RATES)
    seconds = _quantity(latency, _TIMES) if latency else 0.0
    if bits is None or seconds is None or not 0 < bits < math.inf or seconds == math.inf:
        raise ConfigError(
            f"cannot read the link (given: --link {text!r}, expected: a rate in {', '.join(_RATES)} and a latency in "
            f"{', '.join(_TIMES)}, e.g. 1Gbit,50us). Correct it."
        )
    return Link(bits, seconds)


def _quantity(text: str, units: dict[str, float]) -> float | None:
    """A number with its unit; None where it is none."""
    match = _NUMBER.fullmatch(text.strip())
    unit = units.get(match[2].lower().removesuffix("/s")) if match else None
    return float(match[1]) * unit if match and unit is not None else None


def parse_stages(text: str | None, num_blocks: int) -> tuple[int, ...]:
    """Numbers of stages from ``1,2,4`` or ``blocks``; None: 1, 2, 4, ... up to eight and the number of blocks.

    Raises:
        ConfigError: no numbers, or more stages than blocks.
    """
    if text is None or text == "auto":
        return tuple(n for n in (1, 2, 4, 8) if n <= num_blocks)
    named = ",".join(str(num_blocks) if part.strip() == "blocks" else part for part in text.split(","))
    found = whole_numbers(named, _MOST)
    if found is None:
        raise ConfigError(
            f"cannot read the numbers of stages (given: --stages {text!r}, expected: whole numbers from 1, e.g. "
            "1,2,4,8, or blocks). Correct it."
        )
    counts = tuple(sorted(set(found)))
    if counts[-1] > num_blocks:
        raise ConfigError(
            f"cannot split {num_blocks} blocks into {counts[-1]} stages (blocks: {num_blocks}, --stages {text}). "
            f"Lower --stages to at most {num_blocks}."
        )
    return counts


def parse_replicas(text: str) -> str | tuple[int, ...]:
    """Replicas of the stages from ``auto``, ``2`` or ``1,2,1``.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "auto":
        return text
    found = whole_numbers(text, _MOST)
    if found is None:
        raise ConfigError(
            f"cannot read the replicas (given: --replicas {text!r}, expected: auto, a whole number from 1, or one for "
            "each stage, e.g. 1,2,1). Correct it."
        )
    return found
