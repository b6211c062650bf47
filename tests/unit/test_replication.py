"""How many processes each stage gets, and which transports, devices and threads follow from that."""

from pathlib import Path

import pytest
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import resolve
from workers import placement
from workers.placement import Host, place
from workers.replication import most_balanced

BASE = merged(SMALL, {"rule": {"name": "pred"}, "run": {"threads": 0}, "transport": {"name": "auto"},
                      "train": {"microbatches": 4}})  # fmt: skip


def placed(host, **run):
    return place(resolve(Config.from_dict(merged(BASE, {"run": run})), Path(".")), host)


@pytest.mark.parametrize(
    ("costs", "num_processes", "microbatches", "counts"),
    [
        ([1.0, 2.0, 1.0], 4, 4, (1, 2, 1)), ([1.0, 2.0, 1.0], 3, 4, (1, 1, 1)), ([1.0, 4.0, 1.0], 6, 4, (1, 4, 1)),
        ([1.0, 4.0, 1.0], 5, 4, (1, 2, 1)), ([1.0], 8, 4, (4,)), ([1.0], 3, 6, (3,)), ([1.0], 3, 4, (2,)),
        ([2.0, 2.0], 3, 2, (2, 1)), ([2.0, 1.9], 4, 2, (2, 2)), ([3.0, 1.0], 9, 1, (1, 1)),
    ],
)  # fmt: skip
def test_processes_go_to_the_slowest_stage(costs, num_processes, microbatches, counts):
    assert most_balanced(costs, num_processes, microbatches, [True] * len(costs)) == counts
    assert most_balanced(costs, num_processes, microbatches, [False] * len(costs)) == (1,) * len(costs)


def test_threads_transport_and_devices_are_of_processes(monkeypatch):
    found = placed(Host(8, 0), stages=2, replicas=[1, 2])
    assert (found.num_stages, found.replicas.num_processes, found.threads) == (2, 3, 2)
    assert found.devices == ("cpu",) * 3 and found.transport == "shared_memory"
    monkeypatch.setattr(placement, "check_memory", lambda *_: None)  # which would ask GPUs that are not there
    gpus = placed(Host(8, 4), stages=2, replicas=2)
    assert gpus.devices == ("cuda:0", "cuda:1", "cuda:2", "cuda:3") and gpus.transport == "process_group"


def test_without_replicas_nothing_is_said_of_them():
    assert placed(Host(4, 0), stages=2).counts == () and placed(Host(4, 0), stages=2, replicas=[1, 1]).counts == ()


def test_the_list_gives_the_number_of_stages():
    assert placed(Host(2, 0), replicas=[1, 2, 1], stages="auto").num_stages == 3


def test_auto_by_measured_costs(monkeypatch):
    costs = [1.0, 4.0, 0.3, 0.3, 0.3]
    monkeypatch.setattr(placement, "block_costs", lambda *_: costs)
    found = placed(Host(5, 0), replicas="auto", stages=3, partition=[1, 1, 3])
    assert found.replicas.counts == (1, 2, 1)  # 4 would be the next, of 6 processes
    assert placed(Host(6, 0), replicas="auto", stages=3, partition=[1, 1, 3]).replicas.counts == (1, 4, 1)
    assert placed(Host(1, 0), replicas="auto", stages=3, partition=[1, 1, 3]).replicas.is_single
    assert placed(Host(3, 0), replicas="auto", stages=1).replicas.counts == (2,)


def test_auto_may_choose_the_stages_too(monkeypatch):
    """Four stages would all wait for the one block that takes longest; a stage of several blocks is never shared."""
    monkeypatch.setattr(placement, "block_costs", lambda *_: [0.5, 2.0, 0.5, 0.5, 0.5])
    found = placed(Host(4, 0), replicas="auto", stages="auto", partition="measured")
    assert found.replicas.counts == (1, 2, 1) and found.partition == (range(0, 1), range(1, 2), range(2, 5))
    assert placed(Host(2, 0), replicas="auto", stages="auto", partition="measured").replicas.counts == (1, 1)
    assert placed(Host(4, 0, 4, 4), replicas="auto", stages="auto").replicas.num_processes == 4


@pytest.mark.parametrize(
    ("ranks", "run", "counts"),
    [
        (4, {"replicas": 2, "stages": "auto"}, (2, 2)), (3, {"replicas": [1, 2], "stages": "auto"}, (1, 2)),
        (2, {"replicas": 2, "stages": 1}, (2,)), (4, {"replicas": "auto", "stages": 1}, (4,)),
    ],
)  # fmt: skip
def test_ranks_are_shared_out(ranks, run, counts):
    assert placed(Host(8, 0, ranks, ranks), **run).replicas.counts == counts


@pytest.mark.parametrize(
    ("host", "run", "message"),
    [
        (Host(8, 0), {"replicas": [1, 2], "stages": 3},
         "run.replicas lists 2 stages and 3 are to run (run.replicas: [1, 2]). Change one of them."),
        (Host(8, 0, 4, 4), {"replicas": [1, 2], "stages": "auto"},
         "torchrun gives one process to each rank (run.replicas: [1, 2], run.stages: auto: 3 processes, ranks: 4). "
         "Start 3 ranks, or change the replicas."),
        (Host(8, 0, 5, 5), {"replicas": 2, "stages": 2},
         "torchrun gives one process to each rank (run.replicas: 2, run.stages: 2: 4 processes, ranks: 5). "
         "Start 4 ranks, or change the replicas."),
        (Host(8, 0, 2, 2), {"replicas": "auto", "stages": 3},
         "torchrun gives one process to each rank (run.replicas: auto, run.stages: 3: at least 3 processes, ranks: 2). "
         "Start 3 ranks, or lower --stages to at most 2."),
        (Host(8, 0, 8, 8), {"replicas": "auto", "stages": 7},
         "cannot split 5 blocks into 7 stages (blocks: 5, stages: 7). Lower --stages to at most 5."),
        (Host(8, 0, 4, 4), {"replicas": [1, 2, 1], "stages": 2},
         "run.replicas lists 3 stages and 2 are to run (run.replicas: [1, 2, 1]). Change one of them."),
        (Host(8, 0, 3, 3), {"replicas": "auto", "stages": 1},
         "torchrun's ranks cannot all be used (run.replicas: auto, ranks: 3, most balanced: [2], with 4 micro-batches "
         "to deal). Start 2 ranks, or list the replicas."),
    ],
)  # fmt: skip
def test_numbers_that_do_not_fit(host, run, message):
    with pytest.raises(ConfigError) as caught:
        placed(host, **run)
    assert str(caught.value) == message
