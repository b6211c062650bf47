"""What messages cost, measured between two real processes."""

import math
from concurrent.futures import ProcessPoolExecutor

import pytest

from pipeline.planning.taken import Taken
from workers.host.fork_server import process_context
from workers.planner.wire_costs import WireCosts, measure_wires

TOLD = WireCosts(1e-6, 1e-10, 2e-6, 1e-10, 3e-6, ((0.0, 1e-5), (1e-3, 4e-5)), Taken(1000.0, 0.9))


@pytest.mark.distributed
@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_both_ends_and_wake_ups_are_measured(transport):
    with ProcessPoolExecutor(2, process_context()) as pool:
        found = measure_wires(transport, pool)
    assert found.send_s + found.recv_s > 0 and found.rouse_s >= 0
    waits, wakes = zip(*found.wakes, strict=True)
    assert waits[0] == 0.0 and list(waits) == sorted(waits) and list(wakes) == sorted(wakes)
    assert found.taken is not None and 0 < found.taken.share <= 1
    assert all(0.0 <= wake < math.inf for wake in wakes) and found.wake_s == wakes[0]


def test_a_table_holds_all_of_it():
    assert WireCosts.from_dict(TOLD.to_dict()) == TOLD
    assert WireCosts(0.0, 0.0, 0.0, 0.0).wake_s == 0.0


@pytest.mark.parametrize("name", ["send_s", "rouse_s", "wakes", "taken"])
def test_a_table_of_before_is_none(name):
    """The cost cache may hold what an older version wrote."""
    table = TOLD.to_dict()
    del table[name]
    with pytest.raises(KeyError):
        WireCosts.from_dict(table)
