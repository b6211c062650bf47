import time

import pytest

from workers import trace_origin
from workers.trace_origin import TraceStart


def test_processes_of_a_host_share_a_clock():
    start = TraceStart.now()
    assert start.zero() == (start.clock_s, "clock")
    assert start.clock_s <= time.perf_counter()


def test_other_hosts_are_aligned_by_the_wall_clock(monkeypatch):
    start = TraceStart("elsewhere", clock_s=5.0, wall_s=1000.0)
    monkeypatch.setattr(trace_origin.time, "time", lambda: 1003.0)
    monkeypatch.setattr(trace_origin.time, "perf_counter", lambda: 77.0)
    assert start.zero() == (74.0, "wall clock")


def test_without_a_boot_id_a_host_is_known_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setattr(trace_origin, "_BOOT_ID", tmp_path / "nothing")
    monkeypatch.setattr(trace_origin.platform, "node", lambda: "host-7")
    assert TraceStart.now().host == "host-7"


@pytest.mark.skipif(not trace_origin._BOOT_ID.exists(), reason="the system has no boot id")
def test_hosts_of_the_same_name_are_told_apart(monkeypatch, tmp_path):
    here = TraceStart.now().host
    (tmp_path / "id").write_text("another\n")
    monkeypatch.setattr(trace_origin, "_BOOT_ID", tmp_path / "id")
    assert here != TraceStart.now().host
