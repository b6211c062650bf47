"""Derivatives of smooth units, autograd as the oracle."""

import pytest
import torch
from torch import nn

from pipeline.learning.activation import Smooth

KNOWN = [
    nn.Identity(), nn.Tanh(), nn.Sigmoid(), nn.ReLU(), nn.Softsign(), nn.Hardtanh(), nn.Hardtanh(-0.5, 2.0),
    nn.ReLU6(), nn.Softplus(), nn.Softplus(2.0, 3.0),
]  # fmt: skip


@pytest.mark.parametrize("f", [*KNOWN, nn.Mish(), nn.GELU()], ids=str)
def test_derivative_is_that_of_autograd(f):
    smooth = Smooth.of(f)
    a = torch.linspace(-9.0, 9.0, 200, dtype=torch.float64).view(5, 40).requires_grad_()
    d = torch.randn(5, 40, dtype=torch.float64)
    z = f(a)
    (expected,) = torch.autograd.grad(z, a, d)
    assert torch.equal(smooth.run(a.detach()), z.detach())
    with torch.no_grad():
        found = smooth.derive(d, a.detach(), z.detach())
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
    assert not found.requires_grad
    assert smooth.is_known == (f in KNOWN)


@pytest.mark.parametrize(
    ("f", "kinks"), [(nn.ReLU(), [0.0]), (nn.ReLU6(), [0.0, 6.0]), (nn.Hardtanh(), [-1.0, 1.0])], ids=str
)
def test_at_a_kink_the_derivative_is_that_of_the_sloping_side(f, kinks):
    a = torch.tensor([kinks])
    assert Smooth.of(f).derive(torch.full_like(a, 3.0), a, f(a)).tolist() == [[3.0] * len(kinks)]


def test_a_unit_that_somebody_watches_is_called_and_left_to_autograd():
    f, seen = nn.Tanh(), []
    f.register_forward_hook(lambda *_: seen.append(1))
    smooth = Smooth.of(f)
    smooth.run(torch.zeros(2))
    assert seen == [1] and not smooth.is_known


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Mish])
def test_a_unit_that_works_in_place_leaves_the_pre_activation_alone(kind):
    smooth, usual = Smooth.of(kind(inplace=True)), Smooth.of(kind())
    a = torch.linspace(-9.0, 9.0, 40, dtype=torch.float64)
    before = a.clone()
    z = smooth.run(a)
    assert torch.equal(z, usual.run(before)) and torch.equal(a, before)
    assert torch.equal(smooth.derive(torch.ones_like(a), a, z), usual.derive(torch.ones_like(a), before, z))
    assert torch.equal(a, before)
