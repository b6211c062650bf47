"""Rank 0's port, with real sockets: who is let in, who is dropped, and that nobody holds up the others."""

import json
import os
import pickle
import socket
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge, wait

import pytest

from pipeline.errors import WorkerFailed
from workers import control_port
from workers import line as module
from workers import visit as visiting
from workers.control_port import ControlPort
from workers.visit import visit

KEY = b"k" * 32
LONG_S = 20.0  # an end of a wait that has gone wrong, never reached otherwise


@pytest.fixture
def open_port(monkeypatch):
    monkeypatch.setattr(module, "VISITOR_S", 0.5)
    ports, ends = [], []

    def open_port(num_ranks=2):
        ports.append(ControlPort(KEY, "127.0.0.1", num_ranks))
        return ports[-1], ends

    yield open_port
    for port in ports:
        port.close()
    for end in ends:
        end.close()


def stranger(port, ends, words=b""):
    """A visitor that says ``words``, and waits."""
    sock = socket.create_connection(("127.0.0.1", port.port), timeout=LONG_S)
    ends.append(sock)
    sock.sendall(words)
    return sock


def is_dropped(sock):
    """The port has closed the line; what it said before does not matter."""
    sock.settimeout(LONG_S)
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def come(port, ends, rank, num_ranks=2):
    line = visit("127.0.0.1", port.port, KEY, rank, num_ranks, deadline=time.monotonic() + LONG_S)
    ends.append(line.connection)
    return line


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no sockets of both kinds")
def test_a_port_without_an_address_is_open_to_both_kinds():
    port, ends = ControlPort(KEY, "", 3), []
    try:
        lines = [visit(host, port.port, KEY, rank, 3) for rank, host in ((1, "127.0.0.1"), (2, "::1"))]
        ends = [*lines, *port.wait_for_ranks(LONG_S).values()]
        assert [(line.rank, line.address) for line in ends[2:]] == [(1, "127.0.0.1"), (2, "::1")]
    finally:
        port.close()
        for line in ends:
            line.connection.close()


def test_silent_and_wrong_visitors_are_dropped_and_hold_up_nobody(open_port):
    port, ends = open_port(3)
    words = [b"", b"", b"GET / HTTP/1.0\r\n\r\n", b"\x00\x00\x00\x04abcd", b"\xff" * 64, pickle.dumps(("bye", None))]
    visitors = [stranger(port, ends, said) for said in words]
    theirs = [come(port, ends, rank, 3) for rank in (2, 1)]
    found = port.wait_for_ranks(LONG_S)
    assert sorted(found) == [1, 2] and found[1].identity == theirs[0].identity
    assert all(is_dropped(visitor) for visitor in visitors)
    ends += [line.connection for line in found.values()]


def test_a_visitor_that_talks_slowly_is_dropped_in_time(open_port):
    """Its single bytes keep any limit on one read from ending."""
    port, ends = open_port()
    sock = stranger(port, ends)
    stop = threading.Event()

    def drip():
        try:
            sock.sendall(b"\x00\x00\x00\xff")
            while not stop.wait(0.05):
                sock.sendall(b"x")
        except OSError:
            stop.set()

    thread = threading.Thread(target=drip)
    thread.start()
    assert stop.wait(LONG_S), "the port has not closed the line"
    thread.join(LONG_S)


def test_more_visitors_than_places_wait_for_one(open_port, monkeypatch):
    monkeypatch.setattr(control_port, "_MAX_VISITORS", 2)
    port, ends = open_port()
    for _ in range(6):
        stranger(port, ends)
    come(port, ends, 1)
    assert list(port.wait_for_ranks(LONG_S)) == [1]


def test_another_key_is_refused_on_both_sides(open_port):
    port, _ = open_port()
    with pytest.raises(WorkerFailed, match=r"\[stage 1/2\] rank 0 at 127\.0\.0\.1:\d+ cannot be reached, or has an"):
        visit("127.0.0.1", port.port, b"other" * 8, 1, 2)
    with pytest.raises(WorkerFailed, match=r"\[stage 1/2\] it did not come to rank 0 within 0 s, .*1 visitors were"):
        port.wait_for_ranks(0.3)


TOLD = b'{"rank": 1, "identity": {"kernel": "k", "pid": 1, "started": 1}, "about": [1]}'


@pytest.mark.parametrize("hello", [b"", b"7", b'{"rank": 9}', b'{"rank": [1]}', b'{"rank": 1}', b"\x80\x04N.", TOLD])
def test_a_visitor_with_the_key_that_is_no_rank(open_port, hello):
    port, ends = open_port()
    sock = stranger(port, ends)
    sock.settimeout(None)
    connection = Connection(sock.detach())
    ends.append(connection)
    answer_challenge(connection, KEY)
    deliver_challenge(connection, KEY)
    connection.send_bytes(hello)
    assert connection.poll(LONG_S)
    with pytest.raises((EOFError, ConnectionResetError)):
        connection.recv_bytes()


def test_the_second_visitor_of_a_rank_is_sent_away(open_port):
    port, ends = open_port(3)
    first, second = come(port, ends, 1, 3), come(port, ends, 1, 3)
    come(port, ends, 2, 3)
    found = port.wait_for_ranks(LONG_S)
    ends += [line.connection for line in found.values()]
    assert sorted(found) == [1, 2]
    gone = wait([first.connection, second.connection], LONG_S)
    assert len(gone) == 1


def test_what_rank_0_sends_is_sealed_for_one_visit(open_port):
    port, ends = open_port(3)
    ours, other = come(port, ends, 1, 3), come(port, ends, 2, 3)
    found = port.wait_for_ranks(LONG_S)
    ends += [line.connection for line in found.values()]
    found[1].send(b"a job")
    assert ours.receive() == b"a job"
    found[2].send(b"a job of rank 2")
    sealed = other.connection.recv_bytes()
    for forged in (sealed, b"a job", pickle.dumps(None), b""):
        found[1].connection.send_bytes(forged)
        with pytest.raises(ValueError, match="it was not sent by a holder of the run's key"):
            ours.receive()


def test_a_silent_rank_0_is_no_rank_0(monkeypatch):
    monkeypatch.setattr(module, "VISITOR_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(WorkerFailed, match="cannot be reached, or has another key"):
            visit("127.0.0.1", server.getsockname()[1], KEY, 1, 2)


def unused_port():
    """One below those that the kernel gives to clients: whoever connects, the visitor itself among them, could have
    taken another one meanwhile."""
    for number in range(20_000 + os.getpid() % 10_000, 32_768):
        with suppress(OSError), socket.create_server(("127.0.0.1", number)):
            return number
    raise AssertionError("no port is left")


def test_a_rank_that_cannot_reach_rank_0_yet_says_so_once_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(visiting, "_SAY_S", -1.0)
    number = unused_port()
    found = []
    ends = time.monotonic() + LONG_S
    visitor = threading.Thread(target=lambda: found.append(visit("127.0.0.1", number, KEY, 1, 2, deadline=ends)))
    visitor.start()
    while not caplog.records:
        assert time.monotonic() < ends
        time.sleep(0.01)
    time.sleep(3 * visiting._AGAIN_S)
    monkeypatch.setattr(control_port, "_listen", lambda host: socket.create_server((host, number)))
    port = ControlPort(KEY, "127.0.0.1", 2)
    port.wait_for_ranks(LONG_S)
    visitor.join(LONG_S)
    port.close()
    (line,) = found
    line.connection.close()
    text = f"rank 0 at 127.0.0.1:{number} is not reached yet (ConnectionRefusedError: [Errno 111] Connection refused)"
    assert [record.getMessage() for record in caplog.records] == [text]


def test_an_impostor_learns_no_key_and_is_told_nothing():
    """It can say that it has checked our proof; it cannot give its own."""
    heard = []

    def impostor(server):
        sock, _ = server.accept()
        with Connection(sock.detach()) as connection:
            connection.send_bytes(b"#CHALLENGE#" + b"0" * 20)
            heard.append(connection.recv_bytes())
            connection.send_bytes(b"#WELCOME#")
            heard.append(connection.recv_bytes())
            connection.send_bytes(b"no digest")
            with pytest.raises(EOFError):
                while True:
                    heard.append(connection.recv_bytes())

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=impostor, args=(server,))
        thread.start()
        with pytest.raises(WorkerFailed, match="cannot be reached, or has another key"):
            visit("127.0.0.1", server.getsockname()[1], KEY, 1, 2)
        thread.join(LONG_S)
    assert not thread.is_alive() and not any(KEY in words or b"rank" in words for words in heard)


def test_the_line_says_who_visits(open_port):
    port, ends = open_port()
    line = come(port, ends, 1)
    assert json.loads(line._context)["identity"] == line.identity.to_table()


@pytest.fixture
def with_freight(monkeypatch):
    monkeypatch.setattr(module, "VISITOR_S", 0.5)
    port, ends = ControlPort(KEY, "127.0.0.1", 3, with_freight=True), []
    yield port, ends
    port.close()
    for end in ends:
        end.close()


def test_a_rank_has_come_when_both_of_its_lines_have(with_freight):
    port, ends = with_freight

    def come(rank, **about):
        line = visit("127.0.0.1", port.port, KEY, rank, 3, about)
        ends.append(line.connection)
        return line

    freight = come(1, freight=True)
    come(1, local_rank=0, folder="/tmp/there")
    come(2, local_rank=1)
    with pytest.raises(WorkerFailed, match=r"\[stage 2/3\] it did not come to rank 0 within 0 s, nor did 0 others"):
        port.wait_for_ranks(0.3)
    for rank in (1, 2):  # what had come is the loss of those who gave up
        come(rank, freight=True)
        come(rank, local_rank=rank, folder=None)
    found = port.wait_for_ranks(LONG_S)
    ends += [line.connection for line in (*found.values(), *port.freight.values())]
    assert sorted(found) == sorted(port.freight) == [1, 2]
    assert found[1].about == {"local_rank": 1, "folder": None} and port.freight[1].about == {"freight": True}
    assert found[1].address == freight.address == "127.0.0.1"


def test_a_line_for_files_is_sent_away_where_none_is_wanted(open_port):
    port, ends = open_port()
    line = visit("127.0.0.1", port.port, KEY, 1, 2, {"freight": True})
    ends.append(line.connection)
    come(port, ends, 1)
    found = port.wait_for_ranks(LONG_S)
    ends += [line.connection for line in found.values()]
    assert sorted(found) == [1] and port.freight == {}
    assert line.connection.poll(LONG_S)


def test_rank_0_says_for_whom_it_waits(open_port, monkeypatch, caplog):
    monkeypatch.setattr(control_port, "_SAY_S", 0.2)
    port, ends = open_port(4)
    come(port, ends, 2, 4)
    with pytest.raises(WorkerFailed, match=r"\[stage 1/4\] it did not come"):
        port.wait_for_ranks(1.0)
    assert [r.getMessage() for r in caplog.records] == ["waiting for ranks 1, 3; see their outputs"]
