"""Files that cross a line in pieces: whole and compared at the other end, or with a reason."""

import json
import threading
from multiprocessing import Pipe

import pytest
from tests.support.failing_disk import FailingDisk
from tests.support.freight_lines import BLOCK, LONG_S, written

from workers.freight import FreightDesk, get_file, put_file


@pytest.mark.parametrize("num_bytes", [0, 1, 2**18, 2**18 + 1, 3_000_000])
@pytest.mark.parametrize("place", [0, 1])
def test_a_file_arrives_whole_in_the_place_that_was_named(desk, disk, tmp_path, num_bytes, place):
    path = written(disk / "block", num_bytes)
    there = put_file(desk, path, BLOCK, place)
    assert there == tmp_path / ("out", "spare")[place] / BLOCK
    assert there.read_bytes() == path.read_bytes()
    assert list(there.parent.iterdir()) == [there]


@pytest.mark.parametrize("num_bytes", [0, 700_000])
def test_a_file_is_fetched(desk, disk, tmp_path, num_bytes):
    path = written(tmp_path / "out" / BLOCK, num_bytes)
    get_file(desk, BLOCK, disk / "here" / "block")
    assert (disk / "here" / "block").read_bytes() == path.read_bytes()


def test_what_is_not_there_is_said_on_either_side_and_the_line_goes_on(desk, disk, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        get_file(desk, BLOCK, disk / "block")
    assert not (disk / "block").exists()
    with pytest.raises(OSError, match="No such file"):
        put_file(desk, disk / "none", BLOCK)
    assert not (tmp_path / "out" / BLOCK).exists()
    assert put_file(desk, written(disk / "block", 10), BLOCK).exists()


def test_a_disk_that_refuses_is_named_and_the_line_goes_on(desk, disk, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OSError, match=f"{tmp_path}/out/{BLOCK}: "):
        put_file(desk, written(disk / "block", 700_000), BLOCK)
    assert put_file(desk, disk / "block", BLOCK, place=1).read_bytes() == (disk / "block").read_bytes()


@pytest.mark.parametrize("what", ["the byte", "the length"])
def test_a_file_that_is_damaged_on_its_way_is_not_taken(desk, disk, tmp_path, what):
    desk.send_bytes(json.dumps({"put": BLOCK, "place": 0}).encode())
    desk.send_bytes(b"abc")
    desk.send_bytes(b"")
    last = {"bytes": 3, "crc32": 1} if what == "the byte" else {"bytes": 4, "crc32": 891568578}
    desk.send_bytes(json.dumps(last).encode())
    answer = json.loads(desk.recv_bytes())
    assert "the file was damaged on its way (3 bytes, checksum 352441c2; sent: " in answer["error"]
    assert not (tmp_path / "out" / BLOCK).exists()


@pytest.mark.parametrize(
    "said",
    [{"put": "../other", "place": 0}, {"put": "/etc/passwd", "place": 0}, {"get": "record.jsonl"},
     {"get": "initial/block-000.safetensors"}, {"put": BLOCK}, {"put": BLOCK, "place": 7},
     {"put": 3, "place": 0}, {}, [], "text"],
    ids=str,
)  # fmt: skip
def test_a_stage_that_asks_for_what_is_not_its_own_is_hung_up_on(desk, tmp_path, said, caplog):
    (tmp_path / "out").mkdir()
    desk.send_bytes(json.dumps(said).encode())
    assert desk.poll(LONG_S)
    with pytest.raises((EOFError, ConnectionResetError)):
        desk.recv_bytes()
    assert "a stage on another host said what cannot be read" in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("said", [b"[]", b"no table", b"{}"])
def test_an_answer_that_cannot_be_read_is_an_error_of_the_line(tmp_path, said):
    ours, theirs = Pipe()
    with ours, theirs:
        ours.send_bytes(said)
        with pytest.raises(OSError, match="rank 0 said what cannot be read"):
            put_file(theirs, written(tmp_path / "block", 10), BLOCK)
        for data in (b"", said):
            ours.send_bytes(data)
        with pytest.raises(OSError, match="rank 0 said what cannot be read|damaged on its way .*sent: {}"):
            get_file(theirs, BLOCK, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_desk_that_closes_takes_its_threads_along(tmp_path, monkeypatch):
    """A stage that never hangs up: the line is shut down under the thread that reads it, and closed behind it."""
    monkeypatch.setattr("workers.freight._CLOSE_S", 0.1)
    ours, theirs = Pipe()
    with theirs:
        desk = FreightDesk([ours], [tmp_path / "out", tmp_path / "spare"])
        desk.close()
        assert not any(thread.is_alive() for thread in desk._threads) and ours.closed
        assert theirs.poll(LONG_S)


def test_a_rank_0_that_is_gone(tmp_path):
    ours, theirs = Pipe()
    path = written(tmp_path / "block", 10)
    threading.Thread(target=lambda: (ours.recv_bytes(), ours.close()), daemon=True).start()
    with pytest.raises(OSError), theirs:
        put_file(theirs, path, BLOCK)
    ours, theirs = Pipe()
    ours.close()
    with pytest.raises(OSError), theirs:
        get_file(theirs, BLOCK, path)


@pytest.mark.parametrize("moment", ["start", "end"])
def test_a_full_disk_at_rank_0_loses_no_piece_of_the_next_file(desk, disk, moment):
    """The file is read to its end all the same."""
    path = written(disk / "block", 3_000_000)
    with FailingDisk("ENOSPC", "block-002", moment).put_in():
        with pytest.raises(OSError, match="block-002.safetensors: No space left on device"):
            put_file(desk, path, BLOCK)
    assert put_file(desk, path, BLOCK).read_bytes() == path.read_bytes()
