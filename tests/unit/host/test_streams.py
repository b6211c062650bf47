"""Streams that nobody reads, that are closed or full."""

import io
import os
import select
import sys
import threading

import pytest

from workers.host import streams
from workers.host.streams import PatientFile, complain, drained, end_output, line_writer, open_standard_streams, patient


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue  # closed by the test


def fill(descriptor):
    """Until not a byte more fits."""
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)


def read_all(descriptor):
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts).lstrip(b".").decode()


def test_what_is_written_arrives_in_order(pipe):
    file = PatientFile(pipe[1])
    assert [file.write(f"line {i}\n") for i in range(3)] == [7, 7, 7]
    assert file.drain(5.0) and os.read(pipe[0], 100) == b"line 0\nline 1\nline 2\n"


def test_lines_are_written_as_long_as_somebody_reads_them(pipe, monkeypatch):
    reading, writing = pipe
    with open(writing, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        say = line_writer(quiet=False)
        line_writer(quiet=True)("nobody asked")
        say("first")
        assert os.read(reading, 100) == b"first\n"
        os.close(reading)
        for line in ("the reader is gone", "and so it stays"):
            say(line)
        assert end_output() is None


def test_a_reader_that_does_not_read_holds_up_nobody(pipe):
    """The first piece and the newest are kept, and come when the reader reads."""
    fill(pipe[1])
    file = PatientFile(pipe[1], most=4)
    for i in range(100):
        file.write(f"{i}\n")
    assert not file.drain(0.05)
    got = []
    reader = threading.Thread(target=lambda: got.append(read_all(pipe[0])))
    reader.start()
    assert file.drain(5.0)
    os.close(pipe[1])
    reader.join(5.0)
    lines = got[0].split()
    assert lines[0] == "0" and lines[-3:] == ["97", "98", "99"] and len(lines) <= 6


def test_nothing_is_dropped_without_a_bound(pipe):
    fill(pipe[1])
    file = PatientFile(pipe[1], most=None)
    for i in range(500):
        file.write(f"{i}\n")
    got = []
    reader = threading.Thread(target=lambda: got.append(read_all(pipe[0])))
    reader.start()
    assert file.drain(5.0)
    os.close(pipe[1])
    reader.join(5.0)
    assert got[0].split() == [str(i) for i in range(500)]


def test_a_reader_that_is_gone_is_no_error(pipe):
    os.close(pipe[0])
    file = PatientFile(pipe[1])
    file.write("nobody")
    assert file.drain(5.0)
    file.write("nobody")
    assert file.drain(0.0)


def test_a_descriptor_that_does_not_block_is_waited_for(pipe):
    """As another program on the same terminal may leave it."""
    fill(pipe[1])
    os.set_blocking(pipe[1], False)
    file = PatientFile(pipe[1])
    file.write("at last")
    assert not file.drain(0.05)
    os.read(pipe[0], 65536)
    assert file.drain(5.0)


def test_it_is_a_text_file(pipe):
    file = PatientFile(pipe[1], "ascii")
    assert (file.encoding, file.fileno(), file.isatty(), file.writable()) == ("ascii", pipe[1], False, True)
    print("Nøkland", file=file)
    assert file.drain(5.0) and os.read(pipe[0], 100) == b"N\\xf8kland\n"


def test_a_stream_without_a_descriptor_stays_itself():
    stream = io.StringIO()
    assert patient(stream) is stream and drained(stream)


def test_a_complaint_waits_a_second_at_most(pipe, monkeypatch):
    monkeypatch.setattr(streams, "CLOSING_S", 0.05)
    fill(pipe[1])
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        complain("launch.py: nobody reads this")
    os.read(pipe[0], 65536)  # room for what was held back: it comes now, after complain() has returned
    assert select.select([pipe[0]], [], [], 5.0)[0] and b"nobody reads this" in os.read(pipe[0], 65536)


@pytest.mark.parametrize(("number", "reason"), [(32, None), (28, "No space left on device")])
def test_the_end_of_standard_output(monkeypatch, tmp_path, number, reason):
    class Failing(io.StringIO):
        def flush(self):
            raise OSError(number, os.strerror(number))

        def fileno(self):
            return target.fileno()

    with (tmp_path / "out").open("w") as target:
        stream = Failing()
        monkeypatch.setattr(sys, "stdout", stream)
        assert end_output() == reason
        target.write("to nowhere")
    assert (tmp_path / "out").read_text() == ""
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert end_output() is None


def test_streams_that_are_there_are_left_alone(monkeypatch, tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii") as out, (tmp_path / "err").open("w") as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        before = sorted(os.listdir("/proc/self/fd"))
        open_standard_streams()
        assert sorted(os.listdir("/proc/self/fd")) == before and (sys.stdout, sys.stderr) == (out, err)
        print("ø")
    assert (tmp_path / "out").read_text() == "\\xf8\n"
