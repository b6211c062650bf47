"""Synthetic gradients over stages: the same weights wherever the blocks are, and blocks that wait for nothing."""

import copy
from collections import deque
from functools import cache

import pytest
import torch
from tests.support.products import DIAGONAL, PLACES, rare
from tests.support.runs import LATE, merged, run, sha
from tests.support.runs import SMALL as RUN

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
RATE = 0.02
SMALL = {"name": "dni", "layers": 1, "width": 16}
PLAIN = {"model": {"norm": "none", "dropout": 0.0}}


WAYS = {
    "plain": {"rule": SMALL}, "late": {"rule": SMALL, "train": {"in_flight": 3}},
    "mixed": {"rule": {**SMALL, "mixing": 0.5}},
    "mixed and late": {"rule": {**SMALL, "mixing": 0.5}, "train": {"in_flight": 3}},
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of each way to learn from one stage in this process."""
    return cache(lambda way: sha(tmp_path_factory.mktemp("reference") / "run", WAYS[way]))


@pytest.mark.parametrize("place", rare(PLACES, but=DIAGONAL))
@pytest.mark.parametrize("way", WAYS)
def test_p1_any_number_of_stages_over_any_transport(tmp_path, reference, way, place):
    stages, transport = place
    placed = {"run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "run", {**WAYS[way], **placed}) == reference(way)


@pytest.mark.parametrize("way", rare(WAYS, but=["late"]))
def test_p2_stages_and_messages_slowed_at_random(tmp_path, reference, way):
    assert sha(tmp_path / "run", {**WAYS[way], **LATE}) == reference(way)


def test_o_n4_no_update_waits_where_the_model_is_given(tmp_path):
    """O-N4: with models that are not trained, block updates four batches in flight are bit for bit those of one.

    On any partition: the update is unlocked.
    """
    changes = {"rule": {"name": "tests.support.frozen_synthesiser"}, **PLAIN}
    wanted = sha(tmp_path / "one", changes)
    for in_flight, stages, transport in ((4, 1, "inline"), (4, 2, "shared_memory"), (2, "blocks", "inline")):
        placed = {"run": {"stages": stages}, "transport": {"name": transport}, "train": {"in_flight": in_flight}}
        assert sha(tmp_path / f"{in_flight}-{stages}", {**changes, **placed}) == wanted


def test_o_n4_an_exact_model_makes_it_backpropagation_at_any_number_of_batches_in_flight(tmp_path):
    """O-N4: with an exact model, block updates four batches in flight are bit for bit those of one.

    They are backpropagation's up to rounding, which itself learns something else so late.
    """
    changes = {"model": {"depth": 1, "norm": "none", "dropout": 0.0}, "optimizer": {"name": "sgd", "lr": RATE}}
    exact = {**changes, "rule": {"name": "tests.support.exact_synthesiser"}}
    wanted = sha(tmp_path / "one", exact)
    assert sha(tmp_path / "four", {**exact, "train": {"in_flight": 4}}) == wanted
    backprop = {**changes, "rule": {"name": "backprop"}}
    undelayed = sha(tmp_path / "backprop", backprop)
    assert sha(tmp_path / "late", {**backprop, "train": {"in_flight": 4}}) != undelayed
    pairs = zip(*(load_blocks(latest_weights(tmp_path / name)) for name in ("four", "backprop")), strict=True)
    for mine, other in pairs:
        for name, tensor in other.items():
            assert (mine[name] - tensor).abs().max() <= 1e-5 * tensor.abs().max()


def test_models_that_learn_late_are_other_models(reference):
    """Else the tests above would hold whatever came."""
    assert len({reference(way) for way in WAYS}) == len(WAYS)


def fed(config, out):
    """The training batches as the run sees them, epoch by epoch."""
    dataset = load_dataset(config, out)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=config.train.batch_size, seed=config.seed,
                   device=torch.device("cpu"), train=True)  # fmt: skip
    for epoch in range(config.train.epochs):
        yield [feed.batch(epoch, index) for index in range(feed.num_batches)]


class Loop:
    """All blocks in one loop: each learns from its model at once, each model from its message so many batches later.

    A block that waits learns through the weights of its forward pass: a copy of it runs, and hands over what it finds.
    """

    def __init__(self, config, out, in_flight, mixing):
        resolved = resolve(config, out)
        pairs = zip(resolved.blueprints, resolved.specs, strict=True)
        self.rules = [build_rule(resolved.config, blueprint, spec) for blueprint, spec in pairs]
        self.optimizers = [torch.optim.SGD(rule.parameters(), lr=RATE, fused=True) for rule in self.rules]
        self.in_flight, self.mixed = in_flight, mixing > 0.0
        self.late = deque()

    def batch(self, x, y):
        contexts, runners = [], [copy.deepcopy(r) if self.mixed and not r.spec.is_last else r for r in self.rules]
        for rule in runners:
            x, context = rule(x, y)
            contexts.append(context)
        messages = {len(self.rules) - 1: self.rules[-1].learn(contexts[-1], ()).upstream}
        if not self.mixed:
            for k in reversed(range(len(self.rules) - 1)):
                messages[k] = self.rules[k].learn(contexts[k], ()).upstream
        self.late.append((runners, contexts, messages))
        if len(self.late) == self.in_flight:
            self.hear()
        self.step()

    def hear(self):
        runners, contexts, messages = self.late.popleft()
        for k in reversed(range(len(self.rules) - 1)):
            runners[k].synthesiser = self.rules[k].synthesiser
            upstream = runners[k].learn(contexts[k], messages[k + 1]).upstream
            messages.setdefault(k, upstream)
            for mine, ran in zip(self.rules[k].block.parameters(), runners[k].block.parameters(), strict=True):
                mine.grad = ran.grad

    def step(self):
        for rule, optimizer in zip(self.rules, self.optimizers, strict=True):
            optimizer.step()
            rule.zero_grad()


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_a_run_is_the_loop(tmp_path, in_flight, mixing):
    """Bit for bit."""
    changes = {
        "rule": {**SMALL, "mixing": mixing}, "optimizer": {"name": "sgd", "lr": RATE, "milestones": []},
        "train": {"in_flight": in_flight}, **PLAIN,
    }  # fmt: skip
    config = Config.from_dict(merged(RUN, changes))
    run(tmp_path / "run", changes)
    loop = Loop(config, tmp_path, in_flight, mixing)
    for epoch in fed(config, tmp_path):
        for x, y in epoch:
            loop.batch(x, y)
        while loop.late:
            loop.hear()
            loop.step()
    for state, rule in zip(load_blocks(latest_weights(tmp_path / "run")), loop.rules, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in rule.state_dict().items())
