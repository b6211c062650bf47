"""Rows that a disk does not take are kept, and written where they belong as soon as it does."""

import errno
import os

import pytest
from tests.support.failing_disk import ERRORS, FailingDisk

from pipeline.records import row_file
from pipeline.records.row_file import RowFile


def rows_in(path):
    return path.read_text().splitlines()


@pytest.mark.parametrize("name", ERRORS)
def test_rows_are_kept_and_tried_again(tmp_path, caplog, name):
    path = tmp_path / "rows"
    with FailingDisk(name, "rows", times=3).put_in():
        file = RowFile(path)
        for number in range(3):
            file.write(f"row {number}")
        assert path.read_text() == "" and file.num_bytes == 18
        file.write("row 3")
        assert rows_in(path) == ["row 0", "row 1", "row 2", "row 3"]
        file.close()
    assert [record.message for record in caplog.records] == [
        f"cannot write {path} ({os.strerror(getattr(errno, name))}): its rows are kept in memory and tried again",
        f"{path} is written again, 0 rows are lost",
    ]


def test_a_row_that_was_cut_goes_on_where_it_stopped(tmp_path, monkeypatch):
    path, taken = tmp_path / "rows", iter([2, None, 3, None])
    real = row_file._write

    def short(descriptor, data):
        count = next(taken, len(data))
        if count is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:count])

    monkeypatch.setattr(row_file, "_write", short)
    file = RowFile(path)
    file.write("abcdef")
    assert path.read_text() == "ab"
    file.write("ghi")
    assert path.read_text() == "abcde"
    file.close()
    assert path.read_text() == "abcdef\nghi\n"


@pytest.mark.parametrize("spare", [True, False])
def test_what_is_left_at_the_end_goes_elsewhere(tmp_path, caplog, spare):
    path, other = tmp_path / "rows", tmp_path / "elsewhere" / "rows"
    with FailingDisk("ENOSPC", "rows", times=10**6).put_in() as disk:
        disk.left = 0
        file = RowFile(path)
        file.write("here")
        disk.left = 10**6
        file.spare = other if spare else None
        file.write("there")
        file.write("too")
        file.close()
    assert rows_in(path) == ["here"] and other.exists() == spare
    assert caplog.records[-1].message == f"2 rows of {path} are " + (f"in {other}, 0 of them lost" if spare else "lost")
    assert not spare or rows_in(other) == ["there", "too"]


def test_both_places_fail(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with FailingDisk("EIO", "rows").put_in():
        file = RowFile(tmp_path / "rows")
        file.spare = tmp_path / "file" / "rows"
        file.write("a")
        file.close()
    assert "1 rows of" in caplog.records[-1].message and "are lost (" in caplog.records[-1].message


def test_what_is_kept_is_bounded_and_the_oldest_go(tmp_path, caplog):
    path = tmp_path / "rows"
    with FailingDisk("ENOSPC", "rows", times=50).put_in():
        file = RowFile(path, limit_bytes=100)
        for number in range(50):
            file.write(f"row {number:05d}")
        file.write("the last")
        file.close()
    found = rows_in(path)
    assert found == [f"row {n:05d}" for n in range(40, 50)] + ["the last"] and file.num_bytes == len(path.read_bytes())
    assert caplog.records[-1].message == f"{path} is written again, 40 rows are lost"


def test_a_file_that_is_there_is_appended_to(tmp_path):
    path = tmp_path / "rows"
    path.write_text("old\n")
    file = RowFile(path)
    assert file.num_bytes == 4
    file.write("new")
    file.close()
    assert rows_in(path) == ["old", "new"]
    with pytest.raises(OSError, match="No such file"):
        RowFile(tmp_path / "no" / "rows")
