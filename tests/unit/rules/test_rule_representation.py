"""Bounds and losses of local representation alignment."""

import pytest
import torch

from pipeline.learning.discrepancy import bounded, discrepancy


def test_o_l5_a_bound_for_each_row():
    """O-L5: a row shorter than the bound stays, a longer one has exactly that length, and a row of zeros is 0."""
    v = torch.randn(6, 4, dtype=torch.float64) * torch.tensor([0.0, 0.1, 1.0, 3.0, 10.0, 1e6]).double().unsqueeze(1)
    norms = v.norm(dim=1)
    found = bounded(v, 2.0, rows=True)
    below = norms <= 2.0
    assert below.sum() >= 2 and (~below).sum() >= 2
    assert torch.equal(found[below], v[below])
    torch.testing.assert_close(found[~below].norm(dim=1), torch.full_like(norms[~below], 2.0), rtol=1e-10, atol=0)
    torch.testing.assert_close(found[~below] / 2.0, v[~below] / norms[~below].unsqueeze(1), rtol=1e-10, atol=0)
    assert not found[0].any() and found.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 5), (7,)])
def test_o_l5_a_gradient_has_one_norm(shape):
    """O-L5: a gradient is bounded by the norm of all its entries."""
    v = torch.randn(shape, dtype=torch.float64)
    norm = v.norm()
    assert torch.equal(bounded(v, 1.01 * norm.item(), rows=False), v)
    torch.testing.assert_close(bounded(v, 0.3, rows=False), v * (0.3 / norm), rtol=1e-10, atol=0)
    assert not bounded(torch.zeros(shape), 0.3, rows=False).any()
    assert bounded(v, 0.0, rows=False) is v


@pytest.mark.parametrize("name", ["cauchy", "l2", "l1"])
def test_o_l9_losses_and_their_derivatives(name):
    """O-L9: the three losses and their derivatives are autograd's, that of Cauchy's loss among them."""
    r = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    value = {
        "cauchy": (1 + r * r).log().sum(1), "l2": 0.5 * (r * r).sum(1), "l1": r.abs().sum(1),
    }[name]  # fmt: skip
    (expected,) = torch.autograd.grad(value.sum(), r)
    losses, derivative = discrepancy(name, r.detach().clone())
    torch.testing.assert_close(losses, value.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(derivative, expected, rtol=1e-10, atol=0)


def test_o_l9_the_derivative_of_cauchy_is_at_most_one_at_one():
    """O-L9: the derivative of Cauchy's loss is largest at 1, where it is 1."""
    r = torch.tensor([[-1.0, 1.0, 0.0, *torch.linspace(-30, 30, 400).tolist()]], dtype=torch.float64)
    _, derivative = discrepancy("cauchy", r)
    assert derivative[0, :3].tolist() == [-1.0, 1.0, 0.0]
    assert derivative[0, 3:].abs().max() < 1.0
