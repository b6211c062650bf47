"""What a user is told of a run that was cut short."""

import pytest

from pipeline.errors import DiskError, NonFiniteError, WorkerFailed, last_words
from pipeline.records.snapshots import Manifest, snapshot_folder
from pipeline.schedules.cuts import Cut
from workers.next_move import add_next_move

FOUND = {"block": 2, "epoch": 1, "step": 7, "since": 5, "what": "loss", "name": "", "value": "nan"}
LOST = WorkerFailed(0, 2, "it died", is_lost=True)


@pytest.fixture
def run(tmp_path):
    """A run with a snapshot that is whole and a newer one that is not."""
    for steps in (460, 466):
        folder = snapshot_folder(tmp_path, steps)
        folder.mkdir(parents=True)
        Manifest(Cut(20, steps - 460), steps, {}).write(folder)
    (folder / "manifest.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("error", [LOST, KeyboardInterrupt(), SystemExit(143), DiskError("it is full")], ids=repr)
def test_what_was_lost_or_interrupted_can_be_gone_on_with(run, error):
    add_next_move(error, run)
    assert error.__notes__ == [f"Go on with --resume {run}, from epoch 21, step 0."]
    error.__notes__.clear()


def test_a_run_without_a_snapshot_begins_anew(tmp_path):
    error = KeyboardInterrupt()
    add_next_move(error, tmp_path)
    assert last_words(error).splitlines() == [
        "interrupted; every stage has been stopped",
        f"Go on with --resume {tmp_path}, from the beginning: it has no snapshot (snapshot.every_epochs=1 takes one "
        "after each epoch).",
    ]


@pytest.mark.parametrize("error", [WorkerFailed(0, 2, "it raised"), NonFiniteError(FOUND)], ids=repr)
def test_what_raised_would_raise_again(run, error):
    add_next_move(error, run)
    assert last_words(error) == str(error)
