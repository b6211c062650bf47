"""The results of a comparison, round after round, as ``compare.json`` has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import one_line
from pipeline.records.files import write_json
from workers.comparison.arms import Arm
from workers.comparison.summary import summary_of

__all__ = ["Results"]


class Results:
    """The results of the rounds so far. Args: arms, the own one first; out, where ``compare.json`` will be."""

    def __init__(self, arms: Sequence[Arm], out: Path) -> None:
        self.first_error: Exception | None = None
        self._arms, self._out = arms, out
        self._results: dict[str, list[dict[str, Any] | None]] = {arm.name: [] for arm in arms}
        self._seeds: list[int] = []
        self._order: list[list[str]] = []
        self._failures: list[dict[str, Any]] = []

    @property
    def seed(self) -> int:
        """Of the round that goes on."""
        return self._seeds[-1]

    def folder(self, arm: Arm) -> Path:
        """Of an arm's run in the round that goes on."""
        return self._out / arm.name / f"seed-{self.seed}"

    def begin(self, seed: int) -> Sequence[Arm]:
        """The arms in the order of a new round: every other one backwards, since a host may grow warm or busy."""
        turns = self._arms if len(self._seeds) % 2 == 0 else self._arms[::-1]
        self._seeds.append(seed)
        self._order.append([arm.name for arm in turns])
        return turns

    def add(self, arm: Arm, result: dict[str, Any] | None) -> None:
        """What an arm's run has come to."""
        self._results[arm.name].append(result)

    def add_failure(self, arm: Arm, error: Exception) -> None:
        """An arm's run has failed."""
        self.add(arm, None)
        self._failures.append({"arm": arm.name, "seed": self.seed, "error": one_line(error)})
        self.first_error = self.first_error or error

    @property
    def table(self) -> dict[str, Any]:
        """What is in ``compare.json`` after whole rounds."""
        return {
            **summary_of(self._results), "seeds": [*self._seeds], "order": [*self._order],
            "failures": [*self._failures],
        }  # fmt: skip

    def write(self) -> None:
        """Writes ``compare.json``, in place of that of fewer rounds. Raises OSError where the disk refuses."""
        write_json(self._out / "compare.json", self.table)
