"""Steps without torch's compiler: the same numbers, and it is not imported."""

import subprocess
import sys

import pytest
import torch
from torch import nn, optim

from pipeline.optim.eager import eager

KINDS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Rprop, optim.Adagrad]

ONE_RUN = """
import sys
import torch
from pipeline.optim.optimizers import load_optimizer
parameter = torch.nn.Parameter(torch.ones(3))
for name in ("sgd", "adam", "adamw", "rmsprop", "rprop", "adagrad", "sign_sgd"):
    optimizer = load_optimizer(name, {}).build([parameter])
    for _ in range(2):
        parameter.grad = torch.ones(3)
        optimizer.step()
        optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_torch(kind):
    ends = []
    for made in (kind, eager(kind)):
        torch.manual_seed(0)
        net = nn.Linear(5, 3)
        optimizer = made(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(4, 5)).square().mean().backward()
            optimizer.step()
        ends.append((net.weight, optimizer.state_dict()))
    (first, state), (second, again) = ends
    assert torch.equal(first, second) and state["param_groups"] == again["param_groups"]
    assert state["state"].keys() == again["state"].keys()


def test_a_step_builds_no_graph():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = eager(optim.SGD)([parameter], lr=1.0)
    parameter.grad = torch.ones(2, requires_grad=True)
    optimizer.step()
    assert parameter.is_leaf and torch.is_grad_enabled()


def test_it_is_still_that_optimizer():
    made = eager(optim.Adam)
    assert issubclass(made, optim.Adam) and made.__name__ == "Adam" and made.__doc__ == optim.Adam.__doc__


def test_no_optimizer_imports_the_compiler():
    done = subprocess.run([sys.executable, "-c", ONE_RUN], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
