"""What a stage on another host brings home, where it goes, and what becomes of what cannot be brought."""

import re
import threading
from multiprocessing import Pipe

import pytest
from tests.support.freight_lines import BLOCK, LONG_S, blocks_in, result_in, written

from pipeline.errors import DiskError
from workers import coordinator, worker
from workers.courier import Courier
from workers.rescue import declare_complete


def test_a_courier_brings_the_weights_and_leaves_nothing_behind(desk, disk, tmp_path):
    root = disk / "stage-1"
    folder = root / "snapshots" / "step-40"
    contents = {path.name: path.read_bytes() for path in blocks_in(folder, 2, 3)}
    courier = Courier(desk, root)
    courier.post(written(root / "trace-stage-1.part", 10), root / "measurements" / "epoch-1" / "none")
    there, calls = tmp_path / "out" / "snapshots" / "step-40", []
    result = result_in(folder, 2, 3)
    courier.bring_result(result, lambda: calls.append(len(list(there.iterdir())) if there.exists() else 0))
    assert calls == [0, 1, 2]  # that are there, after the trace and after each block
    courier.close()
    assert result["folder"] == str(there) and "trouble" not in result
    assert {p.name: p.read_bytes() for p in there.iterdir()} == contents
    assert (tmp_path / "out" / "trace-stage-1.part").exists()
    assert not root.exists() and disk.exists()


def test_a_result_without_weights_waits_for_what_was_posted(desk, disk, tmp_path):
    """A replica other than the first saves none, and its part of the trace is on its way."""
    courier = Courier(desk, disk)
    courier.post(written(disk / "trace-stage-1.part", 3_000_000))
    result, calls = {"folder": "", "files": []}, []
    courier.bring_result(result, lambda: calls.append((tmp_path / "out" / "trace-stage-1.part").exists()))
    assert calls == [True] and result == {"folder": "", "files": []}
    courier.close()


def test_the_second_place_takes_all_weights_where_the_first_refuses_one(desk, disk, tmp_path):
    """The first two blocks are in the run's folder already, and the last would be taken there, too."""
    folder = disk / "snapshots" / "step-40"
    contents = {path.name: path.read_bytes() for path in blocks_in(folder, 2, 3, 4)}
    (tmp_path / "out" / "snapshots" / "step-40" / "block-003.safetensors").mkdir(parents=True)
    courier, result = Courier(desk, disk), result_in(folder, 2, 3, 4)
    courier.bring_result(result, lambda: None)
    there = tmp_path / "spare" / "snapshots" / "step-40"
    assert result["folder"] == str(there) and "block-003.safetensors: " in result["trouble"]
    assert {p.name: p.read_bytes() for p in there.iterdir()} == contents
    courier.close()
    assert not disk.exists()


@pytest.mark.parametrize("block", [2, 3])
def test_a_snapshot_that_the_first_place_does_not_take_is_let_go(desk, disk, tmp_path, block):
    folder = disk / "snapshots" / "step-40"
    blocks_in(folder, 2, 3)
    (tmp_path / "out" / "snapshots" / "step-40" / f"block-00{block}.safetensors").mkdir(parents=True)
    courier = Courier(desk, disk)
    assert f"block-00{block}.safetensors: " in courier.bring_snapshot(folder, [(2, 0), (3, 0)])
    courier.close()
    assert not disk.exists() and not (tmp_path / "spare").exists()


def test_a_snapshot_is_brought(desk, disk, tmp_path):
    contents = {path.name: path.read_bytes() for path in blocks_in(disk / "snapshots" / "step-40", 2, 3)}
    courier = Courier(desk, disk)
    assert courier.bring_snapshot(disk / "snapshots" / "step-40", [(2, 0), (3, 0)]) is None
    assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "snapshots" / "step-40").iterdir()} == contents
    courier.close()
    assert not disk.exists()


def test_what_cannot_be_brought_stays_and_is_named(desk, disk, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("workers.courier.platform.node", lambda: "node1")
    for name in ("out", "spare"):
        (tmp_path / name).write_text("in the way")
    folder = disk / "snapshots" / "step-40"
    (path,) = blocks_in(folder, 2)
    courier = Courier(desk, disk)
    courier.post(written(disk / "trace-stage-1.part", 10))
    result = {"folder": str(folder), "files": [(2, 0)]}
    courier.bring_result(result, lambda: None)
    assert result["folder"] == f"node1:{folder}"
    assert result["trouble"].startswith(f"node1:{folder}: {tmp_path}/spare/{BLOCK}: ")
    courier.close()
    assert path.exists() and "a file stays on host node1 (" in caplog.text


def test_a_courier_whose_rank_0_is_gone_gives_up_at_once(disk, caplog):
    ours, theirs = Pipe()
    ours.close()
    courier = Courier(theirs, disk)
    courier.post(written(disk / "trace-stage-1.part", 10))
    blocks_in(disk / "snapshots" / "step-40", 2)
    result = result_in(disk / "snapshots" / "step-40", 2)
    courier.bring_result(result, lambda: None)
    assert result["folder"].endswith(f":{disk}/snapshots/step-40") and result["trouble"].startswith(result["folder"])
    courier.close()
    assert "a file stays on host" in caplog.text


def test_files_that_do_not_arrive_have_one_time_limit_together(disk, caplog):
    """A stage that has failed reports behind them, and others have lost it meanwhile."""
    ours, theirs = Pipe()
    courier = Courier(theirs, disk)
    courier.post(*(written(disk / f"trace-stage-{k}.part", 10) for k in range(100)))
    waiting = threading.Thread(target=courier.wait, args=(0.2,), daemon=True)
    waiting.start()
    waiting.join(LONG_S / 2)
    assert not waiting.is_alive()
    said = [record.getMessage().partition(" (")[2] for record in caplog.records]
    assert said == ["it was not at rank 0 within 0.2 s)"] * 100
    ours.close()
    courier.close()
    theirs.close()


def test_a_failed_stage_reports_before_the_coordinator_stops_waiting():
    assert 0 < worker._LAST_PART_S < coordinator.SECONDARY_GRACE_S


class Damaging:
    """A line that damages the first so many files on their way."""

    def __init__(self, connection, number):
        self._connection, self._left = connection, number

    def send_bytes(self, data):
        is_piece = data and not data.startswith(b"{")
        self._connection.send_bytes(bytes([data[0] ^ 1]) + data[1:] if is_piece and self._left > 0 else data)
        self._left -= bool(is_piece)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def test_what_is_damaged_on_its_way_is_sent_once_more(desk, disk, tmp_path):
    (path,) = blocks_in(disk / "snapshots" / "step-40", 2)
    path.write_bytes(b"whole")
    courier, result = Courier(Damaging(desk, 1), disk), result_in(path.parent, 2)
    courier.bring_result(result, lambda: None)
    assert (tmp_path / "out" / BLOCK).read_bytes() == b"whole" and not (tmp_path / "spare").exists()
    path = written(path, 10)
    path.write_bytes(b"whole")
    twice = Courier(Damaging(desk, 2), disk)
    assert "the file was damaged on its way" in twice.bring_snapshot(path.parent, [(2, 0)])
    twice.close()
    courier.close()


def test_what_cannot_be_read_here_is_sent_nowhere_else(desk, disk, tmp_path):
    courier, result = Courier(desk, disk), result_in(disk / "snapshots" / "step-40", 2)
    courier.bring_result(result, lambda: None)
    assert "No such file" in result["trouble"] and f"{disk}/snapshots/step-40/block-002" in result["trouble"]
    assert list(tmp_path.rglob("step-40")) == [tmp_path / "out" / "snapshots" / "step-40"]
    courier.close()


def test_a_run_whose_blocks_are_on_several_hosts_says_where(tmp_path):
    folder = tmp_path / "out" / "snapshots" / "step-40"
    blocks_in(folder, 0)
    results = [
        {"folder": str(folder), "digests": {0: "a"}},
        {"folder": "node1:/disk/snapshots/step-40", "digests": {1: "b"}, "trouble": "node1: refused"},
    ]  # fmt: skip
    text = f"Their blocks are in {folder}, node1:/disk/snapshots/step-40; make room and bring them together"
    with pytest.raises(DiskError, match=re.escape(text)):
        declare_complete(tmp_path / "out", tmp_path / "spare", results, lambda target: None, {})


@pytest.mark.parametrize("where", ["out", "spare"])
def test_weights_of_which_a_block_is_missing_are_not_declared_complete(tmp_path, where):
    folder = tmp_path / where / "snapshots" / "step-40"
    blocks_in(folder, 0)
    declared = []
    with pytest.raises(DiskError, match="block-001.safetensors"):
        declare_complete(
            tmp_path / "out", tmp_path / "spare", [result_in(folder, 0, 1)], declared.append, {}
        )  # fmt: skip
    assert declared == []
