"""A stage on another host brings what it writes to rank 0, where the run is to be complete.

The stage writes to a folder of its own host first, as any stage does to the run's folder. What has arrived is removed
here; what cannot be brought stays, and the run says where.
"""

import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.records.files import reason
from pipeline.records.reports import StageResult
from pipeline.records.snapshots import block_file
from workers.freight import Damaged, Unreadable, get_file, put_file

__all__ = ["Courier"]

_DEPTH = {".safetensors": 3, ".part": 1}
"""Names in the path of a file, from the run's folder on: ``snapshots/step-460/block-000.safetensors``."""

logger = logging.getLogger(__name__)


class Courier:
    """Brings files, one after another, on a thread of its own.

    Args:
        connection: to rank 0's :class:`workers.freight.FreightDesk`; closed at the end.
        root: the folder that stands for the run's on this host.
    """

    places: tuple[int, ...] = (0, 1)
    """Of rank 0's, where final weights may go: the run's folder, its second place."""

    def __init__(self, connection: Connection, root: Path) -> None:
        self._connection = connection
        self._root = root
        self._start = root / "start"
        self._pool = ThreadPoolExecutor(1, "courier")
        self._posted: list[Future[Path]] = []

    def post(self, *paths: Path) -> None:
        """Brings files below the root while the stage goes on; one that cannot be brought is logged and stays."""
        self._posted += [self._pool.submit(self._bring, path) for path in paths if path.exists()]

    def wait(self, timeout_s: float | None = None, after_each: Callable[[], object] = lambda: None) -> None:
        """Until all that was posted is there, or has been given up.

        Args:
            timeout_s: longest wait for all of them; None: as long as it takes.
            after_each: called when that is over: the stage does not hang.
        """
        posted, self._posted = self._posted, []
        deadline = time.monotonic() + (timeout_s or 0.0)
        for future in posted:
            try:
                future.result(None if timeout_s is None else max(0.0, deadline - time.monotonic()))
            except OSError as error:  # TimeoutError is one
                trouble = reason(error) if future.done() else f"it was not at rank 0 within {timeout_s:g} s"
                logger.warning("a file stays on host %s (%s)", platform.node(), trouble)
            after_each()

    def bring_snapshot(self, folder: Path, files: Iterable[tuple[int, int]]) -> str | None:
        """Brings the files of a snapshot to the run's folder; waits for it, and for all that was posted before.

        Args:
            folder: of the snapshot, in the root.
            files: the blocks, with their checksums.

        Returns:
            Why it is not there; then it is let go, and its files are here no more.
        """
        self.wait()
        paths = [folder / block_file(block) for block, _ in files]
        try:
            self._bring_all(paths)
            return None
        except OSError as error:
            return reason(error)
        finally:
            for path in paths:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def bring_result(self, result: StageResult, after_each: Callable[[], object]) -> None:
        """Brings the weights that a stage has saved at its end, after all that was posted before, and says in its
        result where they are: all of them in the run's folder, else all in its second place, else here.

        Args:
            result: of the stage; one that has saved no weights stays as it is.
            after_each: called when a file is there: the stage does not hang.
        """
        self.wait(after_each=after_each)
        if not result["files"]:
            return
        folder = Path(result["folder"])
        paths = [folder / block_file(block) for block, _ in result["files"]]
        try:
            there = self._bring_weights(paths, result, after_each)
        except OSError as error:
            result["folder"] = f"{platform.node()}:{folder}"
            result["trouble"] = f"{result['folder']}: {reason(error)}"
            return
        result["folder"] = str(there)
        for path in paths:  # not before all are there: one place is to have them all
            path.unlink()

    def fetch_start(self, snapshot: str, blocks: Iterable[int]) -> Path:
        """Fetches the files of ``blocks`` of the snapshot that a run goes on from; returns their folder here.

        Raises:
            OSError: one cannot be fetched.
        """
        return self._fetch(f"snapshots/{snapshot}", blocks, self._start)

    def fetch_initial(self, blocks: Iterable[int]) -> Path:
        """Fetches the files of ``blocks`` of the other run that a run starts from; returns their folder here.

        Raises:
            OSError: one cannot be fetched.
        """
        return self._fetch("initial", blocks, self._start / "initial")

    def _fetch(self, there: str, blocks: Iterable[int], here: Path) -> Path:
        for block in blocks:
            get_file(self._connection, f"{there}/{block_file(block)}", here / block_file(block))
        return here

    def drop_start(self) -> None:
        """Removes what :meth:`fetch_start` and :meth:`fetch_initial` have fetched."""
        shutil.rmtree(self._start, ignore_errors=True)

    def close(self) -> None:
        """Waits for what was posted, hangs up, and leaves no empty folder."""
        self.wait()
        self._pool.shutdown()
        self._connection.close()
        for folder in sorted((path for path in self._root.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):  # something is in it
                folder.rmdir()
        with suppress(OSError):
            self._root.rmdir()

    def _bring_weights(self, paths: Sequence[Path], result: StageResult, after_each: Callable[[], object]) -> Path:
        """Brings all files to the first place that takes them, and notes why one does not. Raises OSError."""
        for place in self.places[:-1]:
            try:
                return self._bring_all(paths, place, after_each)
            except (Unreadable, ConnectionError):  # no other place would have them
                raise
            except OSError as error:
                result["trouble"] = reason(error)
        return self._bring_all(paths, self.places[-1], after_each)

    def _bring_all(
        self, paths: Sequence[Path], place: int = 0, after_each: Callable[[], object] = lambda: None
    ) -> Path:
        """Brings files of one folder; returns the one where they are. Raises OSError for the first that is not."""
        there = Path()
        for path in paths:
            there = self._pool.submit(self._put, path, place).result().parent
            after_each()
        return there

    def _bring(self, path: Path) -> Path:
        """Brings a file to the run's folder, and removes it here. Raises OSError."""
        there = self._put(path)
        path.unlink()
        return there

    def _put(self, path: Path, place: int = 0) -> Path:
        """Brings a file to one of rank 0's places, at the second try if it is damaged on its way. Raises OSError."""
        name = "/".join(path.parts[-_DEPTH[path.suffix] :])
        try:
            return put_file(self._connection, path, name, place)
        except Damaged as error:
            logger.debug("%s is sent once more: %s", name, error)
            return put_file(self._connection, path, name, place)
