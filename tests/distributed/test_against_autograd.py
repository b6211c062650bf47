"""Runs beside a plain training loop: torch's autograd is the oracle, the data order is the run's own."""

import copy
from collections import deque

import pytest
import torch
from tests.support.runs import NUM_STEPS, SMALL, merged, run
from torch import nn

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import load_dataset

pytestmark = pytest.mark.distributed
TOLERANCE = 1e-5  # relative to the largest weight of a tensor, float32


def network():
    """Three blocks, without batch statistics, so that micro-batches sum up to the batch."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 10)
    )  # fmt: skip


def batches(changes, out):
    """The training batches as the run sees them."""
    config = Config.from_dict(merged(SMALL, changes))
    dataset = load_dataset(config, out)
    train, _ = dataset.load()
    feed = Batches(train, dataset=dataset, batch_size=config.train.batch_size, seed=config.seed,
                   device=torch.device("cpu"), train=True)  # fmt: skip
    for epoch in range(config.train.epochs):
        for index in range(feed.num_batches):
            yield feed.batch(epoch, index)


def assert_same_weights(out, net):
    """The run's saved weights against ``net``."""
    blocks = load_blocks(latest_weights(out))
    found = [tensor for state in blocks for tensor in state.values()]
    for mine, plain in zip(found, net.parameters(), strict=True):
        assert (mine - plain).abs().max() <= TOLERANCE * plain.abs().max()


@pytest.mark.parametrize(
    "changes",
    [
        {"run": {"stages": 3}, "transport": {"name": "shared_memory"}},
        {"run": {"stages": 2}, "transport": {"name": "process_group"}},
        {"schedule": {"mode": "backprop"}},
        {"schedule": {"mode": "gpipe"}, "run": {"stages": 3}, "transport": {"name": "shared_memory"}},
        {"schedule": {"mode": "1f1b"}, "run": {"stages": 3}, "transport": {"name": "shared_memory"}},
    ],
    ids=["parallel-3", "parallel-2-gloo", "backprop", "gpipe", "1f1b"],
)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_o_bp1_o_bp2_backprop_is_autograd(tmp_path, changes, optimizer):
    """O-BP1, O-BP2: backpropagation over stages, in micro-batches under gpipe and 1f1b too, is one loop of torch's
    autograd over whole batches."""
    options = {"lr": 1e-3} if optimizer == "adam" else {"lr": 0.1, "momentum": 0.9}
    # 72 samples: 20 steps of one epoch, the last of 69; both are cut into four micro-batches.
    changes = {**changes, "rule": {"name": "backprop"}, "train": {"epochs": 1, "batch_size": 72},
               "optimizer": {"name": optimizer, "milestones": [], **options}}  # fmt: skip
    net = network()
    table = run(tmp_path / "run", changes, model=copy.deepcopy(net))
    assert table["steps"] == 20 and table["rule"] == "backprop"
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    plain = kind(net.parameters(), **options)
    for x, y in batches(changes, tmp_path):
        plain.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        plain.step()
    assert_same_weights(tmp_path / "run", net)


@pytest.mark.parametrize("in_flight", [2, 5])
def test_p3_late_backprop_is_the_delay_simulator(tmp_path, in_flight):
    """Gradients are those of the forward pass's weights; every block but the last applies them late."""
    changes = {
        "rule": {"name": "backprop"}, "train": {"epochs": 2, "in_flight": in_flight},
        "optimizer": {"name": "sgd", "lr": 0.05, "milestones": []}, "run": {"stages": 3},
        "transport": {"name": "shared_memory"},
    }  # fmt: skip
    net = network()
    run(tmp_path / "run", changes, model=copy.deepcopy(net))
    hidden, last = list(net.parameters())[:-2], list(net.parameters())[-2:]
    late = deque()
    for step, (x, y) in enumerate(batches(changes, tmp_path)):
        grads = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), [*hidden, *last])
        descend(last, grads[-2:])
        late.append(grads[:-2])
        if len(late) == in_flight:
            descend(hidden, late.popleft())
        if (step + 1) % NUM_STEPS == 0:  # an epoch ends: everything in flight is learned from
            while late:
                descend(hidden, late.popleft())
    assert_same_weights(tmp_path / "run", net)


@torch.no_grad()
def descend(parameters, grads, rate=0.05):
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter -= rate * grad


def test_p4_one_in_flight_is_the_undelayed_rule(tmp_path):
    """O-BP1: with one batch in flight backpropagation is plain descent on autograd's gradients."""
    changes = {"rule": {"name": "backprop"}, "optimizer": {"name": "sgd", "lr": 0.05, "milestones": []}}
    net = network()
    run(tmp_path / "run", changes, model=copy.deepcopy(net))
    for x, y in batches(changes, tmp_path):
        grads = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), list(net.parameters()))
        descend(list(net.parameters()), grads)
    assert_same_weights(tmp_path / "run", net)


def test_the_users_own_module_keeps_its_weights_and_is_not_changed(tmp_path):
    net = network()
    before = copy.deepcopy(net.state_dict())
    changes = {"rule": {"name": "pred"}, "run": {"stages": 2}, "transport": {"name": "shared_memory"},
               "train": {"epochs": 6, "batch_size": 100},
               "optimizer": {"name": "adam", "lr": 0.01, "milestones": []}}  # fmt: skip
    table = run(tmp_path / "run", changes, model=net)
    assert table["model"] == "object" and table["num_blocks"] == 3
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert table["test"]["accuracy"] > 0.5
