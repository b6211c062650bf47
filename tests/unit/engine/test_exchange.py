"""What replicas tell each other, and in which order: two of them in one thread, taking turns."""

import random
from collections import defaultdict, deque
from pathlib import Path

import pytest
import torch
from tests.support.runs import SMALL, merged, run

from pipeline.config import Config
from pipeline.engine import exchange as module
from pipeline.engine.exchange import Exchange
from pipeline.engine.message import Kind, Message
from pipeline.engine.requests import Receive, Send
from pipeline.engine.stage import Stage
from pipeline.errors import ConfigError
from pipeline.resolve import build_rule, resolve
from pipeline.schedules.actions import Action, Op
from pipeline.schedules.plan import BlockMode, Plan
from pipeline.schedules.position import Position

EVENTS = [(Action(Op.FORWARD, 0, m), 3) for m in range(2)]
GROUP = range(4, 6)


def stage(norm="none", num_blocks=3):
    """Blocks under a local rule."""
    plain = {"rule": {"name": "pred"},
             "model": {"depth": num_blocks - 1, "width": 8, "norm": norm, "dropout": 0.0}}  # fmt: skip
    found = resolve(Config.from_dict(merged(SMALL, plain)), Path("."))
    rules = [build_rule(found.config, b, s) for b, s in zip(found.blueprints, found.specs, strict=True)]
    made = Stage(rules, range(num_blocks), num_blocks, optimizer=found.optimizer, lr=found.lr, seed=0, batch_size=3,
                 stash=False, device=torch.device("cpu"))  # fmt: skip
    made.begin(Plan(0, (BlockMode.TRAIN,) * num_blocks, (0,) * num_blocks))
    return made


def learn(made, microbatch, exchange=None):
    """A micro-batch through the stage."""
    torch.manual_seed(microbatch)
    x, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    for group in made.groups:
        x = made.forward(microbatch, x, y, 0.5, group)
        made.learn_at_once(microbatch)
        if exchange is not None:
            yield from exchange.contribute(group)


def replica(made, exchange, index, events=EVENTS, num_steps=1):
    for step in range(num_steps):
        exchange.begin(events, 0, step)
        for action, _ in events:
            if exchange.owns(action):
                exchange.at(Op.FORWARD, Position(0, step, action.microbatch))
                yield from learn(made, action.microbatch, exchange)
        yield from exchange.finish()


def spell(request):
    if isinstance(request, Send):
        return f"{request.message.kind.name}{request.message.position.microbatch}>{request.dst}"
    return f"<{request.src}"


def take_turns(programs, whose=list, longest=None):
    """Drives the programs of processes, of those that can go on the ones that ``whose`` picks; what each has requested.
    The most messages that were under way between two are added to ``longest``."""
    queues, said, replies = defaultdict(deque), defaultdict(list), dict.fromkeys(programs)
    requests = {process: next(steps) for process, steps in programs.items()}
    while requests:
        ready = [p for p, r in requests.items() if isinstance(r, Send) or queues[r.src, p]]
        assert ready, "each waits for the other"
        if longest is not None:
            longest.append(max(map(len, queues.values()), default=0))
        for process in whose(ready):
            request = requests.pop(process)
            said[process].append(spell(request))
            if isinstance(request, Send):
                message = request.message
                queues[process, request.dst].append(
                    Message(message.kind, message.position, 1.0, tuple(t.clone() for t in message.tensors))
                )
            replies[process] = queues[request.src, process].popleft() if isinstance(request, Receive) else None
            try:
                requests[process] = programs[process].send(replies[process])
            except StopIteration:
                pass
    return said


@pytest.fixture(autouse=True)
def a_bucket_for_each_block(monkeypatch):
    monkeypatch.setattr(module, "BUCKET_BYTES", 1)


def two_replicas(norm="none"):
    stages = [stage(norm), stage(norm)]
    ends = [Exchange(made, GROUP, r, 3) for r, made in enumerate(stages)]
    said = take_turns({GROUP[r]: replica(stages[r], ends[r], r) for r in range(2)})
    return stages, said


def test_a_blocks_gradients_are_summed_once_the_next_block_has_learned():
    """Tags of gradients are 3 times the micro-batch plus the block; sums of block k go out behind block k + 1."""
    _, said = two_replicas()
    assert said[4][:3] == ["GRADIENT0>5", "GRADIENT1>5", "<5"]
    sent = [text for text in said[4] if ">" in text]
    assert sent == ["GRADIENT0>5", "GRADIENT1>5", "SUM0>5", "GRADIENT2>5", "SUM1>5", "SUM2>5"]
    sent = [text for text in said[5] if ">" in text]
    assert sent == ["GRADIENT3>4", "GRADIENT4>4", "SUM0>4", "GRADIENT5>4", "SUM1>4", "SUM2>4"]
    assert said[4].count("<5") == said[5].count("<4") == 6


def test_small_blocks_go_together(monkeypatch):
    """The first block has 2 440 bytes of gradients with its decoder, and the others a few hundred."""
    monkeypatch.setattr(module, "BUCKET_BYTES", 2500)
    _, said = two_replicas()
    assert [text for text in said[4] if ">" in text] == ["GRADIENT0>5", "GRADIENT2>5", "SUM0>5", "SUM2>5"]
    monkeypatch.setattr(module, "BUCKET_BYTES", 10**6)
    _, said = two_replicas()
    assert said[4] == ["GRADIENT0>5", "<5", "SUM0>5", "<5"]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_every_replica_has_gradients_scores_and_statistics_of_one_process(norm):
    one = stage(norm)
    for m in range(2):
        assert list(learn(one, m)) == []
    for made in two_replicas(norm)[0]:
        for k in range(3):
            wanted = [p.grad for p in one.stepper.parameters(k)]
            assert all(torch.equal(p.grad, g) for p, g in zip(made.stepper.parameters(k), wanted, strict=True))
            buffers = zip(made.rules[k].buffers(), one.rules[k].buffers(), strict=True)
            assert all(torch.equal(a, b) for a, b in buffers)
            assert made.evaluation.scores[k].read() == one.evaluation.scores[k].read()


@pytest.mark.parametrize(("norm", "rounds", "most"), [("none", 1, 8), ("batch", 1, 12), ("none", 2, 16)])
def test_no_more_is_under_way_than_the_edges_have_room_for(norm, rounds, most):
    """However fast the replicas are: see ``exchange_edges``, where the numbers come from. Eight blocks, three steps."""
    longest = []
    for seed in range(6):
        draw = random.Random(seed)
        stages = [stage(norm, 8) for _ in GROUP]
        ends = [Exchange(made, GROUP, r, 8) for r, made in enumerate(stages)]
        events = [(Action(Op.FORWARD, 0, m), 3) for m in range(2 * rounds)]
        whose = {0: min, 1: max}.get(seed, draw.choice)
        programs = {GROUP[r]: replica(stages[r], ends[r], r, events, 3) for r in range(2)}
        take_turns(programs, lambda ready, whose=whose: [whose(ready)], longest)
    assert 3 <= max(longest) <= most


def test_a_message_of_another_step_is_an_error():
    end = Exchange(stage(), GROUP, 0, 3)
    end.begin(EVENTS, 0, 7)
    end.at(Op.FORWARD, Position(0, 7, 0))
    steps = learn(end._stage, 0, end)
    assert spell(next(steps)) == "GRADIENT0>5" and spell(next(steps)) == "GRADIENT1>5" and next(steps) == Receive(5)
    with pytest.raises(RuntimeError) as caught:
        steps.send(Message(Kind.GRADIENT, Position(0, 6, 3), 1.0, ()))
    assert str(caught.value) == (
        "the replicas of a stage disagree about what comes next (given: GRADIENT of epoch 0, step 6 from process 5, "
        "expected: GRADIENT of epoch 0, step 7). This is an error in Onward or in a transport of your own."
    )


def test_a_buffer_that_each_micro_batch_changes_is_refused(tmp_path):
    table = {"dataset": {"name": "tests.support.poison"}, "model": {"name": "tests.support.poison.masked"},
             "rule": {"name": "pred"}, "run": {"replicas": 2}, "train": {"batch_size": 10}}  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "run", table)
    assert str(caught.value) == (
        "block 1 changes its buffer block.body.2.seen at each micro-batch, and each of the replicas would see its own "
        "micro-batches only (run.replicas, expected: 1 for such a block). Leave run.replicas out, or keep nothing from "
        "batch to batch."
    )
