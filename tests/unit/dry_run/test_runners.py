"""Stages of a dry run in processes of their own, as their runner hears of them."""

from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from workers import messages
from workers.dry_run import runners
from workers.dry_run.runners import ProcessPerStage
from workers.dry_run.stage import DryRunSpec


@pytest.fixture
def silent(monkeypatch):
    """A runner whose stage never answers, and the stage's end of the connection."""
    monkeypatch.setattr(runners, "PATIENCE_S", 0.05)
    here, there = Pipe()
    runner = ProcessPerStage.__new__(ProcessPerStage)
    runner._processes = SimpleNamespace(links=[here])
    yield runner, there
    here.close()
    there.close()


def test_silence_has_an_end(silent):
    with pytest.raises(TimeoutError, match=r"did not answer in time \(given: 0 s, .*Set run\.predict = false"):
        silent[0].measure(DryRunSpec(1))


def test_a_stage_that_fails_is_quoted(silent):
    messages.send(silent[1], "failed", "stage 0: ValueError: no")
    with pytest.raises(RuntimeError, match="stage 0: ValueError: no"):
        silent[0].measure(DryRunSpec(1))


def test_the_cause_is_told_and_not_the_neighbour_who_lost_it():
    connections = [Pipe(), Pipe()]
    runner = ProcessPerStage.__new__(ProcessPerStage)
    runner._processes = SimpleNamespace(links=[here for here, _ in connections])
    messages.send(connections[0][1], "failed", "stage 0: TransportTimeout: stage 1 is gone")
    messages.send(connections[1][1], "failed", "stage 1: ValueError: no")
    with pytest.raises(RuntimeError, match="stage 1: ValueError: no"):
        runner.measure(DryRunSpec(1))
    for here, there in connections:
        here.close()
        there.close()


def test_a_lost_neighbour_is_told_where_there_is_no_cause(silent):
    messages.send(silent[1], "failed", "stage 0: TransportTimeout: stage 1 is gone")
    with pytest.raises(RuntimeError, match="stage 1 is gone"):
        silent[0].measure(DryRunSpec(1))
