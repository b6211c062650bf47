import queue
import threading
from multiprocessing import Pipe

import pytest

from pipeline.errors import TransportTimeout
from pipeline.schedules.schedule import Parallel
from workers import control, messages
from workers.control import EXIT_ORPHANED, ControlLink

LONG_S = 20.0  # an end of a wait that has gone wrong, never reached otherwise
PLANS = [Parallel(2, 3).plan(epoch, ()) for epoch in range(3)]


class Line:
    """A link, and the coordinator's end of its line."""

    def __init__(self):
        self.far, near = Pipe()
        self.orphaned = threading.Event()
        self.verdicts = queue.SimpleQueue()
        self.link = ControlLink(near, 2, self.orphaned.set, told=self.verdicts.put)

    def says(self, *said):
        for message in said:
            messages.send(self.far, *message)

    def heard(self):
        """The next report but a beat."""
        while True:
            assert self.far.poll(LONG_S)
            topic, body = messages.receive(self.far)
            if topic != "beat":
                return topic, body


@pytest.fixture
def line():
    line = Line()
    yield line
    line.far.close()
    line.link.close()


def test_plans_come_in_order_and_none_ends_them(line):
    line.says(*(("plan", (epoch, plan)) for epoch, plan in enumerate([*PLANS, None])))
    assert [line.link.next_plan(epoch) for epoch in range(4)] == [*PLANS, None]


def test_plans_that_were_published_ahead_do_not_fill_the_line(line):
    """Far more than a pipe takes, from the thread that would read them later."""
    for epoch in range(3000):
        line.says(("plan", (epoch, PLANS[0])))
    assert all(line.link.next_plan(epoch) == PLANS[0] for epoch in range(3000))


def test_a_plan_that_cannot_come_any_more(line, monkeypatch):
    monkeypatch.setattr(control, "_LOOK_AGAIN_S", 0.01)
    line.says(("bye", None))
    text = r"stage 2 waited for the plan of epoch 3 and the coordinator is gone\. Look at its output for the reason\."
    with pytest.raises(TransportTimeout, match=text):
        line.link.next_plan(3)


def test_a_plan_out_of_turn(line):
    line.says(("plan", (1, PLANS[1])))
    with pytest.raises(RuntimeError, match="the plan of epoch 1 came when epoch 0 was due"):
        line.link.next_plan(0)


def test_reports_arrive_whole_from_any_thread(line):
    bodies = [{"stage": 2, "text": str(n) * 50_000} for n in range(4)]
    threads = [threading.Thread(target=line.link.send, args=("epoch", body)) for body in bodies]
    for thread in threads:
        thread.start()
    found = [line.heard() for _ in bodies]
    for thread in threads:
        thread.join(LONG_S)
    assert sorted(found, key=str) == sorted((("epoch", body) for body in bodies), key=str)


def test_the_end_of_the_coordinator_is_noticed_while_nobody_asks(line):
    line.far.close()
    assert line.orphaned.wait(LONG_S)


def test_the_end_of_a_coordinator_in_the_middle_of_a_message(line):
    line.far._send(b"\x00\x00\x01\x00half of what was announced")
    line.far.close()
    assert line.orphaned.wait(LONG_S)


def test_a_farewell_is_no_alarm(line):
    line.says(("plan", (0, None)), ("bye", None))
    line.far.close()
    line.link._thread.join(LONG_S)  # nobody has closed this side yet
    assert not line.orphaned.is_set()
    assert line.link.next_plan(0) is None


def test_the_coordinator_sees_the_line_close(line):
    line.says(("bye", None))
    line.link.close()
    with pytest.raises(EOFError):
        line.heard()


def test_an_end_while_this_side_closes_is_no_alarm(line):
    closing = threading.Thread(target=line.link.close)
    closing.start()
    assert line.link._closing.wait(LONG_S)
    line.far.close()
    closing.join(LONG_S)
    assert not closing.is_alive() and not line.orphaned.is_set()


def test_a_report_to_nobody_is_dropped(line, caplog):
    line.far.close()
    assert line.orphaned.wait(LONG_S)
    with caplog.at_level("DEBUG"):
        line.link.send("epoch", {})
    assert "stage 2 had no coordinator to report to" in caplog.text


def test_by_default_an_orphan_ends_with_its_own_status(monkeypatch):
    codes, ended = [], threading.Event()
    monkeypatch.setattr(control.os, "_exit", lambda code: (codes.append(code), ended.set()))
    far, near = Pipe()
    link = ControlLink(near, 0)
    far.close()
    assert ended.wait(LONG_S)
    assert codes == [EXIT_ORPHANED] == [70]
    link.close()


def test_why_the_run_ends_is_passed_on(line):
    line.says(("verdict", {"text": "host node1 (stage 2): it is gone", "code": 1}))
    assert line.verdicts.get(timeout=LONG_S) == {"text": "host node1 (stage 2): it is gone", "code": 1}
    assert not line.orphaned.is_set()
