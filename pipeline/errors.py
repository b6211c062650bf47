"""The three errors of this project that are not a plain ValueError or TypeError.

Every message says what failed (given, expected) and the next move.
"""

__all__ = ["ConfigError", "TransportTimeout", "WorkerFailed"]


class ConfigError(ValueError):
    """Something the user wrote cannot be run; found before a process starts. Exit code 2."""


class TransportTimeout(RuntimeError):
    """The other end of a transport did not answer in time, or is gone; names both ends."""


class WorkerFailed(RuntimeError):
    """A stage's process raised or died; carries its stage and its traceback. Exit code 1."""

    def __init__(self, stage_index: int, num_stages: int, reason: str) -> None:
        super().__init__(f"[stage {stage_index}/{num_stages}] {reason}")
        self.stage_index = stage_index
        self.num_stages = num_stages
        self.reason = reason
