"""The section ``[chaos]``: emulated compute and delays, for studies of what a run would do on other machines."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.ranges import Range, check_fields

__all__ = ["ChaosConfig", "Wait"]

Wait = Annotated[float, Range(0, 1000)]
"""Seconds, up to 1000."""


@dataclass(frozen=True, kw_only=True)
class ChaosConfig:
    """Emulated compute and delays. Delays never change the result; emulated compute learns nothing."""

    compute: Literal["real", "sleep"] = "real"
    """sleep: stages wait in place of computing. Everything else is real: processes, messages of their true size, the
    coordinator, evaluation, records. Nothing is learned, and ``result.json`` says ``emulated``."""
    compute_s: Wait | list[Wait] | Literal["measured"] = "measured"
    """Under ``compute = "sleep"``: seconds of every stage and optimizer step, a list with those of each stage, or
    measured: what the blocks of each stage take on this machine, each alone. A third is forward, unless measured."""
    delay_s: Wait | list[Wait] = 0.0
    """Latency of every message between stages, in seconds, or a list with that of each link, where link k joins
    stages k and k + 1. A message is not received before that time has passed; those that follow it are on their way
    meanwhile. What passes several links at once takes the longest of them."""
    stage_delay_s: Wait | list[Wait] = 0.0
    """Seconds by which every stage is late in every optimizer step, or a list with those of each stage."""
    delay: Literal["constant", "random", "straggler"] = "constant"
    """How both delays are distributed, with the same mean: random, evenly between none and twice as long; straggler,
    one in ten at random ten times as long, the others none. Drawn from the run's seed."""

    def __post_init__(self) -> None:
        check_fields(self, "chaos.")

    @property
    def emulates(self) -> bool:
        """Nothing is computed, and so nothing is learned."""
        return self.compute == "sleep"

    @property
    def emulates_measured(self) -> bool:
        """Stages wait for as long as their blocks were measured to take."""
        return self.emulates and self.compute_s == "measured"

    @property
    def delays_messages(self) -> bool:
        """Some message is late."""
        return any(self.delay_s) if isinstance(self.delay_s, list) else self.delay_s > 0

    @property
    def delays_stages(self) -> bool:
        """Some stage is late."""
        return any(self.stage_delay_s) if isinstance(self.stage_delay_s, list) else self.stage_delay_s > 0
