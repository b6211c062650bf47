"""Saves a stage's final weights: in the run's folder, else in the run's second place."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.engine.program import Program
from pipeline.engine.stage import Stage
from pipeline.errors import DiskError
from pipeline.records.reports import SnapshotReport, StageResult
from pipeline.records.snapshots import block_file, snapshot_folder
from pipeline.schedules.cuts import Cut
from workers.job import Job
from workers.snapshot_writer import SnapshotWriter

__all__ = ["LastSave", "Saved", "save_elsewhere"]


@dataclass(frozen=True)
class Saved:
    """Where the weights are."""

    folder: Path
    report: SnapshotReport
    trouble: str | None = None
    """Why they are not in the run's folder."""

    def noted(self, result: StageResult) -> StageResult:
        """A stage's last report, with what is known of the files."""
        result["files"], result["data_crc32"] = self.report["files"], self.report["data_crc32"]
        if (trouble := self.trouble or self.report["error"]) is not None:
            result["trouble"] = trouble
        return result


class LastSave:
    """Saves the blocks of a stage at the end of a run; begins at once, and goes on until :meth:`end`."""

    def __init__(self, job: Job, program: Program, writer: SnapshotWriter) -> None:
        self._job, self._program, self._writer = job, program, writer
        self._written: list[SnapshotReport] = []
        self._cut = Cut(program.steps // program.batching.num_steps)
        writer.take(self._cut, program.steps, self._written.append)

    def end(self) -> Saved:
        """Waits for the writer and ends it.

        Raises:
            DiskError: no disk takes the blocks.
        """
        job, program = self._job, self._program
        self._writer.close()
        if (trouble := self._written[0]["error"]) is not None:
            return save_elsewhere(job, program.stage, self._cut, program.steps, program.data_arrays, trouble)
        return Saved(snapshot_folder(job.out, program.steps), self._written[0])


def save_elsewhere(job: Job, stage: Stage, cut: Cut, steps: int, data: Sequence[Tensor], trouble: str) -> Saved:
    """Saves the blocks of a stage in the run's second place, for the first one does not take them.

    Args:
        job: the stage's.
        stage: the blocks.
        cut: the end of the run.
        steps: optimizer steps since the run's start.
        data: all arrays of the data set, where this stage holds them.
        trouble: what the first place says.

    Raises:
        DiskError: the second one does not take them either.
    """
    is_whole = (snapshot_folder(job.out, steps) / "manifest.json").exists()  # of a run that was killed at its very end
    for block in () if is_whole else stage.blocks:  # a part of them is of no use, and the record may need the room
        with suppress(OSError):
            (snapshot_folder(job.out, steps) / block_file(block)).unlink(missing_ok=True)
    written: list[SnapshotReport] = []
    writer = SnapshotWriter(stage, job.stage_index, job.spare, data, job.endpoint.timeout_s, in_background=False)
    writer.take(cut, steps, written.append)
    if written[0]["error"] is not None:
        raise DiskError(
            f"the weights cannot be saved (given: {trouble}; {written[0]['error']}). Make room, or name a folder on "
            "another disk in $ONWARD_RESCUE, and resume from the last snapshot."
        )
    return Saved(snapshot_folder(job.spare, steps), written[0], trouble)
