"""Hears from the stages which files they have written, declares snapshots complete, and retires the oldest."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.records.reports import BlockScores, SnapshotReport
from pipeline.records.run_record import Recorder
from pipeline.records.snapshots import Manifest, remove_spare, retire, retire_incomplete, snapshot_folder
from pipeline.schedules.cuts import Cut

__all__ = ["SnapshotKeeper"]

logger = logging.getLogger(__name__)


class SnapshotKeeper:
    """The snapshots of one run.

    Args:
        run: its folder.
        num_stages: that report.
        num_blocks: of the network.
        keep: newest snapshots that stay.
        fixed: what a resume must keep; the checksum of the data is added when the stage that has them tells it.
        recorder: of the run; its length is part of a snapshot.
    """

    def __init__(
        self, run: Path, num_stages: int, num_blocks: int, keep: int, fixed: Mapping[str, Any], recorder: Recorder
    ) -> None:
        self.restarts = 0
        self._run = run
        self._num_stages = num_stages
        self._num_blocks = num_blocks
        self._keep = keep
        self.fixed = dict(fixed)
        self._recorder = recorder
        self._files: dict[Cut, dict[int, int]] = {}
        self._heard: dict[Cut, set[int]] = {}
        """Stages that have reported of a cut, while some have not."""
        self._warned = False

    def saved(
        self, report: SnapshotReport, epochs: Callable[[int], Sequence[Sequence[BlockScores]]], wall_s: float,
        cache_lost: Sequence[int] = (),
    ) -> bool:  # fmt: skip
        """A stage has written the files of its blocks, or could not.

        Args:
            report: of the stage.
            epochs: the scores of the first so many epochs.
            wall_s: seconds of training so far.
            cache_lost: epochs in which outputs of frozen blocks could not be kept; none behind the cut.

        Returns:
            Whether this completes a snapshot.
        """
        cut = Cut(report["epoch"], report["step"])
        files = self._files.setdefault(cut, {})
        if report["error"] is not None:
            self._warn(report["error"])
        else:
            files.update({block: crc for block, crc in report["files"]})
        if report["data_crc32"] is not None:
            self.fixed["data_crc32"] = report["data_crc32"]
        heard = self._heard.setdefault(cut, set())
        heard.add(report["stage"])
        if len(heard) < self._num_stages:
            return False
        del self._heard[cut]
        if len(files) < self._num_blocks:
            self._let_go(report["steps"])
            return False
        for older in [c for c in self._files if c <= cut]:  # an older one of which a file is missing stays incomplete
            del self._files[older]
        manifest = Manifest(
            cut, report["steps"], files, epochs(cut.epoch), wall_s, self._recorder.num_bytes, self.restarts,
            self.fixed, cache_lost=[epoch for epoch in cache_lost if epoch < cut.epoch],
        )  # fmt: skip
        try:
            manifest.write(snapshot_folder(self._run, manifest.steps))
            retire(self._run, self._keep)
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")
            return False
        return True

    def finish(self, manifest: Manifest, data_crc32: int | None, folder: Path | None = None) -> None:
        """Declares the weights of a complete run.

        Args:
            manifest: without what this object knows itself.
            data_crc32: checksum of the data set.
            folder: where they are; the run's own by default.

        Raises:
            OSError: the disk refuses.
        """
        fixed = {**self.fixed, "data_crc32": data_crc32}
        complete = replace(manifest, fixed=fixed, restarts=self.restarts, record_bytes=self._recorder.num_bytes)
        complete.write(folder or snapshot_folder(self._run, manifest.steps))

    def tidy(self) -> None:
        """Leaves the newest snapshots of a run that is complete, and nothing else."""
        try:
            retire(self._run, self._keep)
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")
        remove_spare(self._run)

    def _let_go(self, steps: int) -> None:
        """Removes the files of a snapshot that will not be complete: on a full disk they would be in the way."""
        try:
            retire_incomplete(self._run, steps)
            remove_spare(self._run)
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")

    def forget(self) -> None:
        """The stages are gone: what they had written of snapshots that are not complete is void."""
        self._files.clear()
        self._heard.clear()

    def _warn(self, reason: str) -> None:
        """Says once that snapshots cannot be written: the run does without."""
        if not self._warned:
            logger.warning("a snapshot cannot be written, and training goes on (%s). Make room on the disk.", reason)
        self._warned = True
