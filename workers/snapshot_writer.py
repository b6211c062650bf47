"""Writes a stage's part of a snapshot while the stage goes on training.

At a cut the blocks are copied into memory of the writer's own, which takes milliseconds; a thread then takes their
checksums and writes them. A cut that comes while the last one is still being written waits for it: a run is written
down as often as was asked for, and on a disk that is too slow for that the waiting is seen in the time budget.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.data.batches import crc32_of
from pipeline.engine.block_state import capture, version
from pipeline.engine.stage import Stage
from pipeline.errors import TransportTimeout
from pipeline.records.files import flush
from pipeline.records.reports import SnapshotReport
from pipeline.records.snapshots import block_file, snapshot_folder, spare_file
from pipeline.records.tensor_file import Packed, pack
from pipeline.schedules.cuts import Cut

__all__ = ["SnapshotWriter"]


@dataclass(frozen=True)
class _Written:
    """A block's newest file."""

    path: Path
    version: tuple[int, ...]
    crc32: int


class SnapshotWriter:
    """Writes one stage's blocks.

    Args:
        stage: hosts them.
        stage_index: of the stage.
        run: the run's folder.
        data: all arrays of the data set, where this stage holds them: their checksum is part of a snapshot.
        timeout_s: longest wait for the disk.
        in_background: False writes before :meth:`take` returns.
    """

    def __init__(
        self, stage: Stage, stage_index: int, run: Path, data: Sequence[Tensor], timeout_s: float,
        *, in_background: bool = True,
    ) -> None:  # fmt: skip
        self._stage = stage
        self._stage_index = stage_index
        self._run = run
        self._data = data
        self._data_crc32: int | None = None
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(1, "snapshots") if in_background else None
        self._writing: Future[None] | None = None
        self._buffers: dict[int, Tensor] = {}
        self._newest: dict[int, _Written] = {}
        self._versions: dict[int, tuple[int, ...]] = {}
        """Of what is being written."""

    def take(self, cut: Cut, steps: int, report: Callable[[SnapshotReport], None]) -> None:
        """Copies every block and has the copies written.

        Args:
            cut: where the stage stands.
            steps: optimizer steps since the run's start.
            report: called from the writing thread when the files are there, or cannot be.

        Raises:
            TransportTimeout: the disk has not taken the last snapshot in time.
        """
        self.wait()
        packed = {k: self._copy(k, cut) for k in self._stage.blocks}
        if self._pool is None:
            self._write(cut, steps, packed, report)
        else:
            self._writing = self._pool.submit(self._write, cut, steps, packed, report)

    def wait(self) -> None:
        """Until nothing is being written; see :meth:`take` for what it raises."""
        if self._writing is not None:
            try:
                self._writing.result(self._timeout_s)
            except NotDone:
                raise TransportTimeout(
                    f"stage {self._stage_index} waited for the disk to take a snapshot and it did not within "
                    f"{self._timeout_s:.0f} s (run.timeout_s). Look at the disk of {self._run}, or raise it."
                ) from None
            self._writing = None

    def close(self) -> None:
        """Waits for the last write and ends the thread."""
        self.wait()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def data_crc32(self) -> int | None:
        """The checksum of the data set, taken once; None where the stage does not hold it."""
        if self._data and self._data_crc32 is None:
            self._data_crc32 = crc32_of(self._data)
        return self._data_crc32

    def _write(
        self, cut: Cut, steps: int, packed: Mapping[int, "Packed | _Written"],
        report: Callable[[SnapshotReport], None],
    ) -> None:  # fmt: skip
        """Writes every block's file and reports; on the writing thread."""
        done: SnapshotReport = {
            "stage": self._stage_index, "epoch": cut.epoch, "step": cut.step, "steps": steps, "files": [],
            "data_crc32": None, "error": None,
        }  # fmt: skip
        folder = snapshot_folder(self._run, steps)
        try:
            done["data_crc32"] = self.data_crc32()
            folder.mkdir(parents=True, exist_ok=True)
            for block, what in packed.items():
                path = folder / block_file(block)
                crc = what.crc32 if isinstance(what, _Written) else _write_file(path, what, spare_file(folder, block))
                if isinstance(what, _Written):
                    _link(what.path, path)
                done["files"].append((block, crc))
                self._newest[block] = _Written(path, self._versions[block], crc)
            flush(folder)
        except OSError as error:
            self._newest.clear()
            done["error"] = f"{error.filename or folder}: {error.strerror}"
        report(done)

    def _copy(self, block: int, cut: Cut) -> "Packed | _Written":
        """A block's state as bytes; its newest file where that holds the same state."""
        inside = cut.step > 0
        now = version(self._stage, block, inside_epoch=inside)
        newest, self._versions[block] = self._newest.get(block), now
        if newest is not None and newest.version == now and newest.path.exists():
            return newest
        state = capture(self._stage, block, inside_epoch=inside)
        packed = pack(state.tensors, {"block": block, **state.facts}, self._buffers.get(block))
        if len(packed.data) > len(self._buffers.get(block, ())):
            self._buffers[block] = packed.data
        return packed


def _write_file(path: Path, packed: Packed, spare: Path) -> int:
    """Writes a file under another name, over the pages of ``spare`` where that is there; returns its checksum."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # of a process that was killed: another name of a good file, perhaps
    with suppress(OSError):
        if os.stat(spare).st_nlink == 1:  # else another snapshot shares its pages
            os.replace(spare, part)
    try:
        with open(part, "r+b" if part.exists() else "wb") as file:
            crc = packed.write(file)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return crc


def _link(source: Path, path: Path) -> None:
    """Gives a file that is there a second name, in another snapshot; a copy of it where the disk has no links."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    os.replace(part, path)
    part.unlink(missing_ok=True)
