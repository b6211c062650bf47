"""The errors of this project that are not a plain ValueError or TypeError.

Every message says what failed (given, expected) and the next move.
"""

from pathlib import Path

__all__ = ["ConfigError", "DamagedFile", "TransportTimeout", "WorkerFailed"]


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


class TransportTimeout(RuntimeError):
    """The other end of a transport did not answer in time, or is gone; names both ends."""


class WorkerFailed(RuntimeError):
    """A stage's process raised or died; carries its stage and its traceback. Exit code 1.

    Args:
        stage_index: of the stage.
        num_stages: of the pipeline.
        reason: what is known.
        is_lost: the stage died or fell silent. Started again it may live; one that raised would raise again.
    """

    def __init__(self, stage_index: int, num_stages: int, reason: str, *, is_lost: bool = False) -> None:
        super().__init__(f"[stage {stage_index}/{num_stages}] {reason}")
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.reason = reason
        self.is_lost = is_lost
