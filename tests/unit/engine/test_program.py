"""A stage's program, driven by hand: which requests it makes, in which order."""

from pathlib import Path

import pytest
import torch
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.data.activation_cache import allocator
from pipeline.engine.message import Kind, Message
from pipeline.engine.program import Program
from pipeline.engine.requests import EpochReport, NextPlan, Progress, Receive, Send
from pipeline.engine.stage import Stage
from pipeline.records.time_budget import TimeBudget
from pipeline.resolve import build_rule, resolve
from pipeline.schedules.batching import Batching
from pipeline.schedules.cuts import Cuts
from pipeline.schedules.plan import BlockMode, Plan
from pipeline.schedules.position import Position


class Feed:
    """Six samples in two batches."""

    def __init__(self, num_samples, size):
        self.num_samples, self.num_batches, self.size = num_samples, -(-num_samples // size), size

    def batch(self, epoch, index):
        return torch.full((self.size, 1, 8, 8), float(index)), torch.zeros(self.size, dtype=torch.int64)


def program(rule, stage_index, partition, **batching):
    """One stage of a net of three blocks."""
    plain = {"rule": {"name": rule}, "model": {"depth": 2, "width": 8, "norm": "none", "dropout": 0.0}}
    found = resolve(Config.from_dict(merged(SMALL, plain)), Path("."))
    blocks = partition[stage_index]
    rules = [build_rule(found.config, found.blueprints[k], found.specs[k]) for k in blocks]
    sizes = {"num_train": 6, "num_test": 4, "batch_size": 3, "eval_batch_size": 2, "microbatches": 1, "in_flight": 1}
    stage = Stage(rules, blocks, 3, optimizer=found.optimizer, lr=found.lr, seed=0, batch_size=3, stash=False,
                  device=torch.device("cpu"))  # fmt: skip
    feeds = (Feed(6, 3), Feed(4, 2)) if stage_index == 0 else (None, None)
    return Program(stage, stage_index, len(partition), Batching(**{**sizes, **batching}), *feeds, TimeBudget(), 0,
                   allocator("memory", 0, Path(".")), Cuts(2))  # fmt: skip


def plan(**changes):
    table = {"epoch": 0, "modes": (BlockMode.TRAIN,) * 3, "lr_epochs": (0,) * 3}
    return Plan(**{**table, **changes})


def spell(request):
    if isinstance(request, Send):
        return f"{request.message.kind.name}{request.message.position.step}>{request.dst}"
    if isinstance(request, Receive):
        return f"<{request.src}"
    return {NextPlan: "plan", Progress: "step", EpochReport: "report"}[type(request)]


def drive(steps, answer):
    """All requests as text; ``answer`` gives the reply to each."""
    found, reply = [], None
    while True:
        try:
            request = steps.send(reply)
        except StopIteration:
            return found
        found.append(spell(request))
        reply = answer(request)


def upstream(plans, width=8):
    """Answers plans, and receives with activations, or with errors from above."""
    plans = iter(plans)
    counts = {"train": 0, "eval": 0, "feedback": 0}

    def answer(request):
        if isinstance(request, NextPlan):
            return next(plans)
        if not isinstance(request, Receive):
            return None
        if request.src > 0:
            counts["feedback"] += 1
            step = counts["feedback"] - 1
            return Message(Kind.FEEDBACK, Position(0, step), 1.0, (torch.ones(3, width),))
        kind = "train" if counts["train"] < 2 else "eval"
        counts[kind] += 1
        rows = 3 if kind == "train" else 2
        tensors = (torch.ones(rows, width), torch.zeros(rows, dtype=torch.int64))
        return Message(Kind[kind.upper()], Position(0, counts[kind] - 1), 1.0, tensors)

    return answer


TWO = (range(0, 2), range(2, 3))
LOWER = "plan  TRAIN0>1 step  TRAIN1>1 step  EVAL0>1 step EVAL1>1 step report plan"
UPPER = "plan  <0 step  <0 step  <0 step <0 step report plan"


@pytest.mark.parametrize(
    ("rule", "stage", "batching", "requests"),
    [
        ("pred", 0, {}, LOWER),
        ("pred", 1, {}, UPPER),
        ("backprop", 0, {}, "plan  TRAIN0>1 <1 step  TRAIN1>1 <1 step  EVAL0>1 step EVAL1>1 step report plan"),
        ("backprop", 1, {}, "plan  <0 FEEDBACK0>0 step  <0 FEEDBACK1>0 step  <0 step <0 step report plan"),
        ("backprop", 0, {"in_flight": 2},
         "plan  TRAIN0>1 step  TRAIN1>1 step <1 step  <1 step  EVAL0>1 step EVAL1>1 step report plan"),
    ],
)  # fmt: skip
def test_requests_of_an_epoch(rule, stage, batching, requests):
    steps = program(rule, stage, TWO, **batching).run()
    assert drive(steps, upstream([plan(), None])) == requests.split()


def test_a_stage_without_an_active_block_asks_for_nothing():
    idle = plan(modes=(BlockMode.TRAIN, BlockMode.IDLE, BlockMode.IDLE))
    assert drive(program("pred", 1, TWO).run(), upstream([idle, None])) == ["plan", "report", "plan"]


def test_without_evaluation():
    found = drive(program("pred", 0, TWO).run(), upstream([plan(evaluate=False), None]))
    assert found == "plan TRAIN0>1 step TRAIN1>1 step report plan".split()


def test_broadcast_goes_straight_from_the_last_stage_to_every_other():
    three = (range(0, 1), range(1, 2), range(2, 3))
    steps = program("dfa", 2, three).run()
    steps.send(None)
    assert steps.send(plan()) == Receive(1)
    message = Message(Kind.TRAIN, Position(0, 0), 1.0, (torch.ones(3, 8), torch.zeros(3, dtype=torch.int64)))
    first, second = steps.send(message), steps.send(None)
    assert (first.dst, second.dst) == (0, 1) and first.message.tensors[0].shape == (3, 10)


def test_a_message_out_of_order_is_an_error():
    steps = program("pred", 1, TWO).run()
    steps.send(None)
    steps.send(plan())
    wrong = Message(Kind.TRAIN, Position(0, 1), 1.0, (torch.ones(3, 8), torch.zeros(3, dtype=torch.int64)))
    with pytest.raises(RuntimeError, match="stage 1 and stage 0 disagree about what comes next"):
        steps.send(wrong)
