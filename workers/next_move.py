"""What a user can do about a run that was cut short: a note on the error that ended it."""

from pathlib import Path

from pipeline.errors import DamagedFile, DiskError, WorkerFailed
from pipeline.records.snapshots import Manifest, complete_snapshots

__all__ = ["add_next_move"]


def add_next_move(error: BaseException, out: Path) -> None:
    """Notes how the run in ``out`` is taken up, where it was interrupted or lost; what raised would raise again."""
    is_lost = isinstance(error, WorkerFailed) and error.is_lost
    if is_lost or isinstance(error, (KeyboardInterrupt, SystemExit, DiskError)):
        error.add_note(f"Go on with --resume {out}, {_from_where(out)}.")


def _from_where(out: Path) -> str:
    """Where a resume would begin, as far as the newest manifest says."""
    for folder in complete_snapshots(out):
        try:
            epoch, step = Manifest.read(folder).cut
        except DamagedFile:
            continue
        return f"from epoch {epoch + 1}, step {step}"
    return "from the beginning: it has no snapshot (snapshot.every_epochs=1 takes one after each epoch)"
