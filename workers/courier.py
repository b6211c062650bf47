"""A stage on another host brings what it writes to rank 0, where the run is to be complete.

The stage writes to a folder of its own host first, as any stage does to the run's folder. What has arrived is removed
here; what cannot be brought stays, and the run says where.
"""

import logging
import platform
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.records.files import reason
from pipeline.records.reports import SnapshotReport
from pipeline.records.snapshots import block_file
from workers.freight import put_file

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

    def __init__(self, connection: Connection, root: Path) -> None:
        self._connection = connection
        self._root = root
        self._pool = ThreadPoolExecutor(1, "courier")
        self._posted: list[Future[Path]] = []

    def post(self, *paths: Path) -> None:
        """Brings files below the root while the stage goes on; one that cannot be brought is logged and stays."""
        self._posted += [self._pool.submit(self._bring, path) for path in paths if path.exists()]

    def wait(self, timeout_s: float | None = None) -> None:
        """Until all that was posted is there, or has been given up."""
        posted, self._posted = self._posted, []
        for future in posted:
            try:
                future.result(timeout_s)
            except (OSError, NotDone) as error:
                logger.warning("a file stays on host %s (%s)", platform.node(), error)

    def bring_blocks(
        self, folder: Path, report: SnapshotReport, after_each: Callable[[], object] = lambda: None
    ) -> str:
        """Brings the files of a snapshot; waits for it.

        Args:
            folder: of the snapshot, in the root or another place.
            report: of the stage; says so where a file cannot be brought.
            after_each: called when a file is there: the stage does not hang.

        Returns:
            The snapshot's folder on rank 0's host, or ``host:folder`` of the files that stay here.
        """
        if report["error"] is not None:
            return str(folder)
        places = []
        for block, _ in report["files"]:
            try:
                places.append(self._pool.submit(self._bring, folder / block_file(block)).result().parent)
            except OSError as error:
                report["error"] = f"{platform.node()}:{folder}: {reason(error)}"
                return f"{platform.node()}:{folder}"
            after_each()
        return str(places[-1])

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

    def _bring(self, path: Path) -> Path:
        """Brings a file to the run's folder, else to its second place; removes it here. Raises OSError."""
        name = "/".join(path.parts[-_DEPTH[path.suffix] :])
        try:
            there = put_file(self._connection, path, name)
        except ConnectionError:
            raise
        except OSError as error:
            logger.debug("rank 0's first place does not take %s: %s", name, error)
            there = put_file(self._connection, path, name, place=1)
        path.unlink()
        return there
