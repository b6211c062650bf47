import pytest
import torch

from pipeline.data.task import Classification
from pipeline.engine import emulated as module
from pipeline.engine.emulated import EmulatedRule, Waiter, even_seconds
from pipeline.learning.rule import BlockSpec, Topology


class Bed:
    """A clock that goes on by what is slept, and by ``late`` more."""

    def __init__(self, monkeypatch, late=0.0):
        self.now, self.late, self.slept = 0.0, late, []
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(module.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds + self.late


def test_what_a_sleep_took_too_long_is_taken_off_the_next(monkeypatch):
    bed, waiter = Bed(monkeypatch, late=0.001), Waiter()
    for _ in range(100):
        waiter.wait(0.02)
    assert bed.now == pytest.approx(2.0, abs=0.002) and len(bed.slept) == 100


def test_a_machine_that_is_busy_is_not_made_up_for(monkeypatch):
    bed, waiter = Bed(monkeypatch, late=0.05), Waiter()
    for _ in range(10):
        waiter.wait(0.02)
    assert bed.now == pytest.approx(10 * 0.07 - 9 * 0.005)


def test_short_waits_are_saved_up(monkeypatch):
    bed, waiter = Bed(monkeypatch), Waiter()
    for _ in range(1000):
        waiter.wait(0.00003)
    assert bed.now == pytest.approx(0.03, abs=1e-4) and min(bed.slept) >= 1e-4


def test_a_stage_is_as_long_as_its_blocks():
    seconds = even_seconds(0.06, 3, 10)
    assert len(seconds) == 3
    assert sum(10 * (s.forward + s.learn) for s in seconds) == pytest.approx(0.06)
    assert seconds[0].learn == pytest.approx(2 * seconds[0].forward)


def rule(topology, index, waiter, num_blocks=3, **options):
    spec = BlockSpec(index, num_blocks, (4, 5), (6,), (6,), Classification(6))
    return module._KINDS[topology](spec, even_seconds(0.3, 1, 10)[0], waiter, torch.float32, **options)


@pytest.mark.parametrize(
    ("topology", "index", "shape"),
    [(Topology.LOCAL, 1, None), (Topology.NEIGHBOUR, 0, None), (Topology.NEIGHBOUR, 1, (8, 4, 5)),
     (Topology.NEIGHBOUR, 2, (8, 4, 5)), (Topology.BROADCAST, 1, None), (Topology.BROADCAST, 2, (8, 6))],
)  # fmt: skip
def test_sends_what_the_rule_in_its_place_would_send(monkeypatch, topology, index, shape):
    bed = Bed(monkeypatch)
    block = rule(topology, index, Waiter())
    assert isinstance(block, EmulatedRule) and list(block.parameters()) == []
    out, context = block(torch.zeros(8, 4, 5), torch.zeros(8, dtype=torch.int64))
    assert out.shape == (8, 6) and bed.now == pytest.approx(0.08)
    learned = block.learn(context, ())
    assert bed.now == pytest.approx(0.24) and learned.loss is None and block.decode(context) is None
    assert [t.shape for t in learned.upstream] == ([] if shape is None else [shape])


def test_a_rule_that_learns_at_once_and_again_tells_the_first_time(monkeypatch):
    bed = Bed(monkeypatch)
    block = rule(Topology.NEIGHBOUR, 1, Waiter(), at_once=True)
    assert block.learns_at_once and not rule(Topology.NEIGHBOUR, 1, Waiter()).learns_at_once
    _, context = block(torch.zeros(8, 4, 5), torch.zeros(8, dtype=torch.int64))
    assert [t.shape for t in block.learn(context, ()).upstream] == [(8, 4, 5)] and bed.now == pytest.approx(0.24)
    assert block.learn(context, (torch.zeros(8, 6),)).upstream == () and bed.now == pytest.approx(0.24)
