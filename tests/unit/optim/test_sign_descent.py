"""Sign descent, and that it is Rprop between whose steps gradients were filled with zeros."""

import pytest
import torch

from pipeline.optim.optimizers import load_optimizer
from pipeline.optim.sign_descent import SignDescent


def parameters():
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(3, 2, generator=generator)), torch.nn.Parameter(torch.ones(4))]


@pytest.mark.parametrize("foreach", [True, False])
def test_every_weight_moves_by_the_rate_whatever_the_gradient_s_size(foreach):
    (moved, untouched) = parameters()
    before = moved.detach().clone()
    moved.grad = torch.tensor([[5.0, -1e-9], [0.0, 2.0], [-3.0, 1.0]])
    SignDescent([moved, untouched], lr=0.25, foreach=foreach).step()
    assert torch.equal(moved, before - 0.25 * torch.tensor([[1.0, -1.0], [0.0, 1.0], [-1.0, 1.0]]))
    assert torch.equal(untouched, torch.ones(4))


def test_o_ld3_it_is_rprop_with_zero_gradients_in_between():
    """O-LD3: Rprop with a gradient of 0 before each real one is descent by signs, bit for bit."""
    ours, theirs = parameters(), parameters()
    sign, rprop = SignDescent(ours, lr=0.01), torch.optim.Rprop(theirs, lr=0.01)
    for step in range(6):
        gradients = [torch.randn(p.shape, generator=torch.Generator().manual_seed(step)) for p in ours]
        for zero in (False, True):
            for p, g in zip(theirs, gradients, strict=True):
                p.grad = torch.zeros_like(g) if zero else g.clone()
            rprop.step()
        for p, g in zip(ours, gradients, strict=True):
            p.grad = g
        sign.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_config_can_choose_it():
    spec = load_optimizer("sign_sgd", {"lr": 0.02})
    assert isinstance(spec.build(parameters()), SignDescent) and dict(spec.options) == {"lr": 0.02}


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match=r"the learning rate is negative \(given: lr=-1.0"):
        SignDescent(parameters(), lr=-1.0)
