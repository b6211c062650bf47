"""The program of a replica, driven by hand: who evaluates, and what the others hear of it."""

from pathlib import Path

import pytest
import torch
from tests.support.runs import SMALL, merged
from tests.unit.engine.test_program import Feed, drive, plan

from pipeline.config import Config
from pipeline.data.activation_cache import allocator
from pipeline.engine.message import Kind, Message
from pipeline.engine.replica_program import ReplicaProgram
from pipeline.engine.requests import Receive
from pipeline.engine.stage import Stage
from pipeline.records.time_budget import TimeBudget
from pipeline.resolve import build_rule, resolve
from pipeline.schedules.batching import Batching
from pipeline.schedules.cuts import Cuts
from pipeline.schedules.plan import Choice
from pipeline.schedules.position import NOWHERE, Position
from pipeline.schedules.replicas import Replicas


class Budget(TimeBudget):
    """Remembers where time was booked."""

    def __init__(self):
        super().__init__()
        self.places = []

    def at(self, position):
        self.places.append(position)


def program(replicas, replica, **batching):
    """One process of the only stage, of three blocks."""
    table = {"rule": {"name": "pred"}, "model": {"depth": 2, "width": 8, "norm": "none", "dropout": 0.0}}
    found = resolve(Config.from_dict(merged(SMALL, table)), Path("."))
    rules = [build_rule(found.config, b, s) for b, s in zip(found.blueprints, found.specs, strict=True)]
    stage = Stage(rules, range(3), 3, optimizer=found.optimizer, lr=found.lr, seed=0, batch_size=3, stash=False,
                  device=torch.device("cpu"))  # fmt: skip
    sizes = {"num_train": 6, "num_test": 4, "batch_size": 3, "eval_batch_size": 2, "microbatches": 3, "in_flight": 1}
    made = ReplicaProgram(
        stage, 0, 1, Batching(**{**sizes, **batching}), Feed(6, 3), Feed(4, 2), Budget(), 0,
        allocator("memory", 0, Path(".")), Cuts(2), replicas=Replicas((replicas,)), replica=replica,
    )  # fmt: skip
    made.stage.begin(plan())
    return made


def news():
    """Answers with one test batch after the other."""
    places = iter(range(100))

    def answer(request):
        return Message(Kind.SCORED, Position(0, next(places)), 1.0, ()) if isinstance(request, Receive) else None

    return answer


def test_the_first_replica_tells_the_others_of_every_batch():
    assert drive(program(3, 0)._evaluate(plan()), news()) == [
        "step", "SCORED0>1", "SCORED0>2", "step", "SCORED1>1", "SCORED1>2",
    ]  # fmt: skip
    assert drive(program(1, 0)._evaluate(plan()), news()) == ["step", "step"]


@pytest.mark.parametrize("replica", [1, 2])
def test_the_others_wait_for_one_batch_at_a_time_and_say_for_which(replica):
    made = program(3, replica)
    assert drive(made._evaluate(plan()), news()) == ["<0", "<0"]
    assert made.budget.places == [Position(0, 0, -1), Position(0, 1, -1), NOWHERE]


@pytest.mark.parametrize("replica", [0, 1])
@pytest.mark.parametrize(("choice", "count"), [(None, 1), (Choice(0, 1, scores_test=True), 2)])
def test_the_test_set_is_counted_where_epochs_score_another(replica, choice, count):
    """One batch of a validation set after an epoch, and two of the test set at the end."""
    made = program(2, replica, num_validation=2)
    made._final_feeds = made._test_feeds
    found = drive(made._evaluate(plan(choice=choice)), news())
    assert [text for text in found if text != "step"] == (
        [f"SCORED{i}>1" for i in range(count)] if replica == 0 else ["<0"] * count
    )
