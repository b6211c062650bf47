"""Indirect feedback alignment over stages, and late, beside a one-process simulator of the delay.

The simulator holds the other rules that settle, too.
"""

from collections import deque
from statistics import median

import pytest
import torch
from tests.support.exchange import run_forward, settle
from tests.support.runs import SMALL, merged, run

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
RATE = 0.5
# Narrower than there are classes: the error is what is largest on the edges.
NARROW = {"name": "mlp", "depth": 4, "width": 8, "norm": "none", "activation": "tanh", "dropout": 0.0}
IFA = {"rule": {"name": "ifa"}, "model": NARROW, "optimizer": {"name": "sgd", "lr": RATE, "milestones": []}}


@pytest.mark.parametrize(
    ("transport", "in_flight"), [("shared_memory", 1), ("shared_memory", 3), ("process_group", 1)]
)
def test_p1_any_number_of_stages(tmp_path, transport, in_flight):
    changes = {**IFA, "train": {"in_flight": in_flight}}
    first = run(tmp_path / "one", changes)
    for stages in (2, "blocks"):
        placed = {**changes, "run": {"stages": stages}, "transport": {"name": transport}}
        found = run(tmp_path / str(stages), placed)
        assert found["weights_sha256"] == first["weights_sha256"] and found["test"] == first["test"]


SETTLE = {
    "ifa": {"name": "ifa"}, "pc": {"name": "pc", "rounds": 5, "rate": 0.3},
    "pc-fixed": {"name": "pc", "inference": "fixed", "rounds": 5, "rate": 0.3},
    "eqprop": {"name": "eqprop", "free_rounds": 5, "nudged_rounds": 4},
}  # fmt: skip


@pytest.mark.parametrize(("rule", "in_flight"), [("ifa", 3), *((rule, 1) for rule in SETTLE)])
def test_p3_p4_a_run_is_the_delay_simulator(tmp_path, rule, in_flight):
    """All blocks are equally late, the last too: it learns behind the exchange."""
    changes = {**IFA, "rule": SETTLE[rule], "train": {"in_flight": in_flight}}
    config = Config.from_dict(merged(SMALL, changes))
    run(tmp_path / "run", changes)
    resolved = resolve(config, tmp_path)
    rules = [build_rule(resolved.config, b, s) for b, s in zip(resolved.blueprints, resolved.specs, strict=True)]
    parameters = [p for rule in rules for p in rule.parameters()]
    optimizer, late = torch.optim.SGD(parameters, lr=RATE, fused=True), deque()

    def catch_up():
        for parameter, grad in zip(parameters, late.popleft(), strict=True):
            parameter.grad = grad
        optimizer.step()
        optimizer.zero_grad()

    dataset = load_dataset(config, tmp_path)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=config.train.batch_size, seed=config.seed,
                   device=torch.device("cpu"), train=True)  # fmt: skip
    for epoch in range(config.train.epochs):
        for index in range(feed.num_batches):
            late.append(_gradients(rules, parameters, *feed.batch(epoch, index)))
            if len(late) == in_flight:
                catch_up()
        while late:
            catch_up()
    for state, mine in zip(load_blocks(latest_weights(tmp_path / "run")), rules, strict=True):
        assert all(torch.equal(state[key], value) for key, value in mine.state_dict().items())


def _gradients(rules, parameters, x, y):
    """Of one batch, with the weights of now."""
    contexts = run_forward(rules, x, y)
    settle(rules, contexts)
    for rule, context in zip(rules, contexts, strict=True):
        rule.learn(context, ())
    grads = [p.grad for p in parameters]
    for rule in rules:
        rule.zero_grad()
    return grads


def test_it_learns_the_digits(tmp_path):
    """Seeds end at 0.937 with a standard deviation of 0.008, with AVX-512 and without: the median of three is above
    0.9 by seven of its own."""
    changes = {**IFA, "model": {**NARROW, "width": 64, "depth": 2}, "optimizer": {"name": "adam", "lr": 5e-3},
               "dataset": {"name": "digits", "crop_padding": 0}, "train": {"epochs": 5, "batch_size": 20}}  # fmt: skip
    found = [run(tmp_path / f"{seed}", {**changes, "seed": seed})["test"]["accuracy"] for seed in range(3)]
    assert median(found) > 0.9
