"""The errors of this project that are not a plain ValueError or TypeError.

Every message says what failed (given, expected) and the next move.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "FAILURES", "ConfigError", "DamagedFile", "DiskError", "NonFiniteError", "SomeRunsFailed", "Stop",
    "TransportTimeout", "WorkerFailed", "kind_and_text", "last_words", "one_line",
]  # fmt: skip


class ConfigError(ValueError):
    """Something the user wrote cannot be run; found before a process starts. Exit code 2."""


class DamagedFile(ValueError):
    """A file of weights or of a snapshot is not as it was written; carries its path and what is wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the file is damaged (given: {path}: {reason}). Take another snapshot of the run, or a copy of the file."
        )
        self.path = path
        self.reason = reason


class DiskError(RuntimeError):
    """What a run must not lose can be written nowhere. Exit code 1."""


class SomeRunsFailed(RuntimeError):
    """Of several runs that were started some have failed; the others have ended. Exit code 1."""


class Stop(Exception):
    """Raised by a hook: the run is to end in order, with its result, as soon as the epochs that are planned are done.

    Its text stands in ``result.json`` as ``stopped``.
    """


class TransportTimeout(RuntimeError):
    """The other end of a transport did not answer in time, or is gone; names both ends."""


class WorkerFailed(RuntimeError):
    """A stage's process raised or died; carries its stage and its traceback. Exit code 1.

    Args:
        stage_index: of the stage.
        num_stages: of the pipeline.
        reason: what is known.
        is_lost: the stage died or fell silent. Started again it may live; one that raised would raise again.
        name: of the process, where the stage has several.
    """

    def __init__(
        self, stage_index: int, num_stages: int, reason: str, *, is_lost: bool = False, name: str | None = None
    ) -> None:
        super().__init__(f"[{name or f'stage {stage_index}/{num_stages}'}] {reason}")
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.reason = reason
        self.is_lost = is_lost


class NonFiniteError(RuntimeError):
    """A loss, a weight or a buffer is nan or infinite; carries the block and the step. Exit code 1.

    Args:
        found: a :class:`pipeline.records.reports.NonFinite`.
        last_good: the newest snapshot from before it, if any.
    """

    def __init__(self, found: Mapping[str, Any], last_good: str | None = None) -> None:
        where = f"last good snapshot: {last_good}" if last_good is not None else "no snapshot was taken before it"
        super().__init__(
            f"the run has left the finite numbers: {_found_text(found)} (steps and epochs are counted from 0; "
            f"{where}). {_next_move(found)}"
        )
        self.row = {**found, "last_good": last_good}


_EVALUATED = {"validation_loss": "validation", "test_loss": "test"}
"""Splits by what is said of them."""

FAILURES = (DiskError, NonFiniteError, SomeRunsFailed, WorkerFailed)
"""What a run, or one of several, may end with: exit code 1."""


def _found_text(found: Mapping[str, Any]) -> str:
    """What is not finite, in which block, and since when."""
    block, epoch, step = found["block"], found["epoch"], found["step"]
    if found["what"] in _EVALUATED:
        return f"the {_EVALUATED[found['what']]} loss of block {block} is {found['value']} after epoch {epoch}"
    if found["what"] == "loss":
        return f"the loss of block {block} is {found['value']} in step {step}, epoch {epoch}"
    if found["what"] == "batches":
        return f"block {block} had to leave out every batch of epoch {epoch}, from step {found['since']} to {step}"
    return (
        f"{found['what']} {found['name']} of block {block} is {found['value']} after step {step}, epoch {epoch}, and "
        f"has been since a step from {found['since']} on"
    )


def _next_move(found: Mapping[str, Any]) -> str:
    """What may be done about it."""
    if found["what"] in _EVALUATED:
        return (
            f"Look for nan and infinite numbers in the {_EVALUATED[found['what']]} samples, or lower optimizer.lr; "
            "train.nonfinite=ignore trains on."
        )
    return "Lower optimizer.lr or the scale of the inputs; train.nonfinite=skip leaves out single batches."


def last_words(error: BaseException) -> str:
    """What is said of the error that ended a run: its text, unless it was told to end, and its notes."""
    told = isinstance(error, (KeyboardInterrupt, SystemExit))
    text = "interrupted; every stage has been stopped" if told else str(error)
    return "\n".join([text, *getattr(error, "__notes__", ())])


def one_line(error: BaseException) -> str:
    """The text of an error that quotes somebody else's, in one line; its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def kind_and_text(error: BaseException) -> str:
    """The same with its kind in front: what readers of damaged files raise says little without."""
    return " ".join(f"{type(error).__name__}: {error}".split())
