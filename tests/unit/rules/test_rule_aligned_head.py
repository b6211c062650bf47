"""The head whose error goes back through a fixed matrix."""

import torch
from rule_builders import assert_same, batch

from pipeline.learning.aligned_head import AlignedHead


def test_scores_and_own_gradients_are_exact_and_the_error_goes_through_the_matrix():
    head = AlignedHead((4, 5, 5), 7, 20).double()
    torch.nn.init.normal_(head.linear.weight)
    h = batch((4, 5, 5))[0].requires_grad_()
    error = torch.randn(16, 7, dtype=torch.float64)
    scores = head(h)
    rows = head.pool(h)
    assert rows.shape == (16, 4, 2, 2) and torch.equal(scores, head.linear(rows.flatten(1)))
    expected = torch.autograd.grad(rows, h, (error @ head.matrix).view(rows.shape), retain_graph=True)
    given = torch.autograd.grad(scores, [h, *head.parameters()], error)
    assert_same(given[:1], expected)
    assert_same(given[1:], torch.autograd.grad(head.linear(rows.flatten(1)), list(head.parameters()), error))


def test_starts_at_zero_with_a_matrix_that_is_bounded_by_the_fan_in_and_never_trained():
    head = AlignedHead((100,), 9, 50)
    assert not head.linear.weight.any() and not head.linear.bias.any()
    assert head.matrix.shape == (9, 100) and 0.09 < head.matrix.abs().max() <= 0.1
    assert "matrix" in head.state_dict() and len(list(head.parameters())) == 2
