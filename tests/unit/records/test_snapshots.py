"""Snapshots: complete ones, damaged ones, retired ones."""

import dataclasses
import random

import pytest
import torch

from pipeline.errors import DamagedFile
from pipeline.records import snapshot_keeper
from pipeline.records.run_record import Recorder, read_record
from pipeline.records.snapshot_keeper import SnapshotKeeper
from pipeline.records.snapshots import (
    Manifest,
    complete_snapshots,
    newest_snapshot,
    read_block,
    remove_spare,
    retire,
    retire_incomplete,
    set_aside_newer,
    snapshot_folder,
    spare_file,
)
from pipeline.records.weights import save_block
from pipeline.schedules.cuts import Cut


def snapshot(run, steps, value=0.0, complete=True):
    folder = snapshot_folder(run, steps)
    files = {k: save_block(folder, k, {"w": torch.full((40,), value + k)}) for k in range(3)}
    if complete:
        Manifest(Cut(0, steps), steps, files, [], 1.5, 20, 0, {"run.threads": 1}).write(folder)
    return folder


def test_a_manifest_comes_back(tmp_path):
    scores = {"train_loss": 0.1, "test_accuracy": None, "test_loss": None, "credit": None}
    rows = [[{"block": 0, "trained": True, **scores}]]
    manifest = Manifest(Cut(1, 2), 12, {0: 0xFF, 1: 3}, rows, 0.1, 77, 2, {"run.threads": 1}, "abc")
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_a_manifest_without_an_epoch_in_front_of_its_cut_is_refused(tmp_path, monkeypatch, caplog):
    """No run can go on from it, and one that was written all the same is passed over."""
    before = snapshot(tmp_path, 4)
    short = dataclasses.replace(Manifest.read(snapshot(tmp_path, 5)), cut=Cut(2), epochs=[[]])
    folder = snapshot_folder(tmp_path, 5)
    with pytest.raises(RuntimeError, match=r"step-5 cannot .*behind 2 epochs, and it has the scores of 1\. This is an"):
        short.write(folder)
    dataclasses.replace(short, fixed=None).write(folder)  # weights alone, which are measured
    assert Manifest.read(folder).cut == Cut(2)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "_why_no_start", lambda manifest: None)
        short.write(folder)
    with pytest.raises(DamagedFile, match="its cut is behind 2 epochs, and it has the scores of 1"):
        Manifest.read(folder)
    assert newest_snapshot(tmp_path)[0] == before and "behind 2 epochs" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "Expecting value"), ("[]", "indices"), ('{"format": 0}', "another version"), ('{"format": 1}', "it has no"),
     ('{"format": 1, "crc32": "00000001"}', "its checksum is not the one that it states")],
)  # fmt: skip
def test_what_is_no_manifest(tmp_path, text, reason):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DamagedFile, match=reason):
        Manifest.read(tmp_path)


def test_no_manifest(tmp_path):
    with pytest.raises(DamagedFile, match="No such file"):
        Manifest.read(tmp_path)


def test_two_hundred_flips_and_two_hundred_truncations_in_any_file(tmp_path, caplog):
    """None is accepted, each is named, and the snapshot before is taken."""
    older, newer = snapshot(tmp_path, 5), snapshot(tmp_path, 10, value=7.0)
    draw = random.Random(0)
    for number in range(400):
        path = draw.choice(sorted(newer.iterdir()))
        good = path.read_bytes()
        content = bytearray(good)
        if number % 2:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        path.write_bytes(content)
        caplog.clear()
        assert newest_snapshot(tmp_path)[0] == older and str(path) in caplog.text
        path.write_bytes(good)
    assert newest_snapshot(tmp_path)[0] == newer


def test_swapped_files(tmp_path, caplog):
    older, newer = snapshot(tmp_path, 5), snapshot(tmp_path, 10, value=7.0)
    first, second = newer / "block-000.safetensors", newer / "block-001.safetensors"
    first.rename(newer / "x")
    second.rename(first)
    (newer / "x").rename(second)
    assert newest_snapshot(tmp_path)[0] == older and str(first) in caplog.text
    with pytest.raises(DamagedFile, match="it is whole, and not the one that the manifest means"):
        read_block(newer, 0)


def test_one_of_another_snapshot(tmp_path):
    older, newer = snapshot(tmp_path, 5), snapshot(tmp_path, 10, value=7.0)
    (newer / "block-002.safetensors").write_bytes((older / "block-002.safetensors").read_bytes())
    assert newest_snapshot(tmp_path)[0] == older


def test_none(tmp_path):
    snapshot(tmp_path, 5, complete=False)
    assert newest_snapshot(tmp_path) is None


def test_the_oldest_make_room(tmp_path):
    folders = [snapshot(tmp_path, steps) for steps in (5, 10, 100, 20)]
    retire(tmp_path, keep=2)
    assert complete_snapshots(tmp_path) == [folders[2], folders[3]] and not folders[0].exists()
    assert spare_file(folders[2], 1).exists()
    snapshot(tmp_path, 7, complete=False)
    retire_incomplete(tmp_path)
    assert not snapshot_folder(tmp_path, 7).exists() and len(complete_snapshots(tmp_path)) == 2
    remove_spare(tmp_path)
    assert sorted(p.name for p in (tmp_path / "snapshots").iterdir()) == ["step-100", "step-20"]


def test_what_a_run_does_not_go_on_from_is_set_aside(tmp_path):
    """Damaged snapshots, and those behind the one that is taken: their steps come anew."""
    folders = [snapshot(tmp_path, steps) for steps in (5, 10, 15)]
    set_aside_newer(tmp_path, snapshot_folder(tmp_path, 7))  # which is not there: whoever takes it has to look again
    assert complete_snapshots(tmp_path) == folders[::-1]
    set_aside_newer(tmp_path, folders[0])
    assert complete_snapshots(tmp_path) == [folders[0]]
    snapshot(tmp_path, 10)
    set_aside_newer(tmp_path, None)
    kept = sorted(p.name for p in (tmp_path / "snapshots").iterdir())
    assert kept == ["void-step-10", "void-step-10-2", "void-step-15", "void-step-5"]


def test_two_names_of_one_file_make_one_spare(tmp_path):
    """A block that has not changed is linked from snapshot to snapshot."""
    folders = [snapshot(tmp_path, steps) for steps in (5, 10, 15)]
    for folder in folders[1:]:
        (folder / "block-000.safetensors").unlink()
        (folder / "block-000.safetensors").hardlink_to(folders[0] / "block-000.safetensors")
    retire(tmp_path, keep=1)
    assert not folders[0].exists() and not folders[1].exists() and folders[2].exists()


def report(stage, step, files, error=None):
    return {"stage": stage, "epoch": 0, "step": step, "steps": step, "files": files, "data_crc32": None, "error": error}


@pytest.fixture
def keeper(tmp_path):
    recorder = Recorder(tmp_path / "record.jsonl")
    yield SnapshotKeeper(tmp_path, 2, 3, 2, {"run.threads": 1}, recorder)
    recorder.close()


def parts(folder):
    return [(k, read_block(folder, k).crc32) for k in range(3)]


def test_a_snapshot_is_complete_when_every_stage_has_written(keeper, tmp_path):
    folder = snapshot(tmp_path, 4, complete=False)
    files = parts(folder)
    assert not keeper.saved(report(1, 4, files[2:]), lambda n: [], 1.0)
    assert newest_snapshot(tmp_path) is None
    assert keeper.saved({**report(0, 4, files[:2]), "data_crc32": 5}, lambda n: [], 1.0)
    found, manifest = newest_snapshot(tmp_path)
    assert found == folder and manifest.cut == Cut(0, 4) and manifest.fixed == {"run.threads": 1, "data_crc32": 5}


def test_what_a_lost_stage_has_written_is_void(keeper, tmp_path):
    files = parts(snapshot(tmp_path, 4, complete=False))
    keeper.saved(report(1, 4, files[2:]), lambda n: [], 1.0)
    keeper.forget()
    assert not keeper.saved(report(0, 4, files[:2]), lambda n: [], 1.0)


def test_parts_of_a_snapshot_that_a_stage_could_not_write_are_let_go(keeper, tmp_path):
    """On a full disk they would be in the way of the next one."""
    files = parts(snapshot(tmp_path, 4, complete=False))
    assert not keeper.saved(report(0, 4, [], "/x: No space left on device"), lambda n: [], 1.0)
    assert snapshot_folder(tmp_path, 4).exists()  # the other stage may still be writing
    assert not keeper.saved(report(1, 4, files[2:]), lambda n: [], 1.0)
    assert list((tmp_path / "snapshots").iterdir()) == []
    files = parts(snapshot(tmp_path, 8, complete=False))
    keeper.saved(report(0, 8, files[:2]), lambda n: [], 1.0)
    assert keeper.saved(report(1, 8, files[2:]), lambda n: [], 1.0) and newest_snapshot(tmp_path) is not None


def test_a_snapshot_says_in_which_epochs_the_cache_was_lost(keeper, tmp_path):
    files = parts(snapshot(tmp_path, 4, complete=False))
    done = {**report(0, 4, files), "epoch": 2}
    keeper.saved(done, lambda n: [[]] * n, 1.0, cache_lost=[1, 2])
    assert keeper.saved({**done, "stage": 1}, lambda n: [[]] * n, 1.0, cache_lost=[1, 2])
    assert newest_snapshot(tmp_path)[1].cache_lost == (1,)  # epoch 2 has only begun


def test_a_disk_that_refuses_is_told_once(keeper, tmp_path, caplog, monkeypatch):
    for step in (4, 8):
        assert not keeper.saved(report(0, step, [], "/x: No space left on device"), lambda n: [], 1.0)

    def refuse(*_):
        raise OSError(28, "No space left on device", "/y")

    monkeypatch.setattr(snapshot_keeper, "retire", refuse)
    assert not keeper.saved(report(0, 12, parts(snapshot(tmp_path, 12, complete=False))), lambda n: [], 1.0)
    keeper.tidy()
    assert caplog.text.count("a snapshot cannot be written, and training goes on (/x: No space left") == 1
    assert len(caplog.records) == 1


def test_a_record_without_what_a_resume_has_made_void(tmp_path):
    path = tmp_path / "record.jsonl"
    recorder = Recorder(path)
    recorder.write({"event": "header", "fixed": {}})
    recorder.write({"event": "epoch", "epoch": 0})
    length = recorder.num_bytes
    recorder.write({"event": "epoch", "epoch": 1})
    recorder.close()
    path.write_bytes(path.read_bytes() + b'{"event": "epo')
    recorder = Recorder(path)
    recorder.write({"event": "restart", "epoch": 1, "record_bytes": length})
    recorder.write({"event": "epoch", "epoch": 1, "again": True})
    recorder.close()
    assert [(row["event"], row.get("epoch"), row.get("again")) for row in read_record(path)] == [
        ("header", None, None), ("epoch", 0, None), ("restart", 1, None), ("epoch", 1, True),
    ]  # fmt: skip


def test_a_manifest_is_not_changed_by_the_end(keeper, tmp_path):
    folder = snapshot(tmp_path, 4, complete=False)
    manifest = Manifest(Cut(1), 4, dict(parts(folder)), [[]], weights_sha256="abc")
    keeper.finish(manifest, 9)
    found = Manifest.read(folder)
    assert dataclasses.replace(found, fixed=None) == manifest and found.fixed["data_crc32"] == 9
