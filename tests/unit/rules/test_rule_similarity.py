"""S(X), the similarity loss and its closed-form gradient."""

import pytest
import torch
import torch.nn.functional as F

from pipeline.learning.similarity import SimilarityHead, similarity, similarity_loss


def plain_loss(x, y, num_classes):
    """The definition, word by word, for autograd to differentiate."""
    if x.dim() == 4 and x.shape[1] > 3 and x.shape[2] > 1:
        x = x.flatten(2).std(2)
    x = x.flatten(1)
    x = x - x.mean(1, keepdim=True)
    x = x / (1e-8 + x.norm(dim=1, keepdim=True))
    target = similarity(F.one_hot(y, num_classes).to(x.dtype))
    return (x @ x.t() - target).square().mean()


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_o_s1_similarity_is_symmetric_bounded_and_has_a_unit_diagonal():
    """O-S1: the similarity matrix is symmetric, has 1 on its diagonal and lies between -1 and 1."""
    s = similarity(features(12, 7))
    torch.testing.assert_close(s, s.t(), rtol=0, atol=1e-12)
    torch.testing.assert_close(s.diagonal(), torch.ones(12, dtype=s.dtype), rtol=0, atol=1e-12)
    assert s.abs().max() <= 1


def test_o_s1_similarity_ignores_scale_shift_and_order_of_features():
    """O-S1: the similarity of samples ignores the scale and the shift of each row, and the order of features."""
    x = features(12, 7)
    s = similarity(x)
    moved = x * (features(12, 1, seed=1).abs() + 0.1) + features(12, 1, seed=2)
    torch.testing.assert_close(similarity(moved), s, rtol=0, atol=1e-7)
    torch.testing.assert_close(similarity(x[:, torch.randperm(7)]), s, rtol=0, atol=1e-12)


def test_o_s2_rotation_keeps_similarity_only_if_it_keeps_the_ones_vector():
    """O-S2: a rotation of the features keeps the similarity where it keeps the vector of ones, and another one changes
    it."""
    x = features(12, 7)
    generic = torch.linalg.qr(features(7, 7, seed=1))[0]
    ones = torch.ones(7, 1, dtype=x.dtype) / 7**0.5
    basis = torch.linalg.qr(torch.cat([ones, features(7, 6, seed=2)], 1))[0]
    inner = torch.block_diag(torch.eye(1, dtype=x.dtype), torch.linalg.qr(features(6, 6, seed=3))[0])
    keeps_ones = basis @ inner @ basis.t()
    torch.testing.assert_close(similarity(x @ keeps_ones), similarity(x), rtol=0, atol=1e-12)
    assert (similarity(x @ generic) - similarity(x)).abs().max() > 0.05


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_o_s3_target_is_one_or_minus_one_over_the_other_classes(num_classes):
    """O-S3: one-hot labels of C classes have similarity 1, or -1 / (C - 1) where they differ."""
    y = torch.arange(2 * num_classes) % num_classes
    target = similarity(F.one_hot(y, num_classes).double())
    same = (y.unsqueeze(1) == y).double()
    expected = same - (1 - same) / (num_classes - 1)
    torch.testing.assert_close(target, expected, rtol=0, atol=1e-12)


def test_o_s3_loss_is_zero_for_the_labels_scaled_and_shifted_by_row():
    """O-S3: the loss is 0 where the features are the labels, each row scaled and shifted."""
    y = torch.arange(12) % 5
    x = F.one_hot(y, 5).double() * (features(12, 1).abs() + 0.5) + features(12, 1, seed=1)
    assert similarity_loss(x, y, 5) < 1e-20
    assert similarity_loss(features(12, 5), y, 5) > 0.1


@pytest.mark.parametrize("shape", [(12, 7), (12, 5, 4, 4), (12, 3, 4, 4), (12, 6, 1, 5)])
def test_o_s4_loss_is_the_mean_over_pairs_and_its_gradient_autograds(shape):
    """O-S4: the loss is the squared Frobenius norm of the difference over the number of pairs, its gradient autograd's.
    """
    x = features(*shape).requires_grad_()
    y = torch.arange(12) % 5
    loss, plain = similarity_loss(x, y, 5), plain_loss(x, y, 5)
    torch.testing.assert_close(loss, plain, rtol=1e-7, atol=0)
    target = similarity(F.one_hot(y, 5).double())
    torch.testing.assert_close(loss, torch.linalg.matrix_norm(similarity(x) - target) ** 2 / 144, rtol=1e-10, atol=0)
    given, expected = (torch.autograd.grad(3 * value, x)[0] for value in (loss, plain))
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


def test_gradient_agrees_with_finite_differences():
    x = features(5, 4).requires_grad_()
    y = torch.tensor([0, 1, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda v: similarity_loss(v, y, 3), x)
    maps = features(4, 5, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: similarity_loss(v, y[:4], 3), maps)


@pytest.mark.parametrize("shape", [(6, 7), (6, 5, 4, 4)])
def test_dead_samples_have_similarity_and_gradient_zero(shape):
    """A row without spread would divide by 0; it learns nothing, and the others learn as before."""
    x = features(*shape)
    x[2] = 0.0
    x.requires_grad_()
    y = torch.tensor([0, 1, 2, 1, 0, 2])
    assert not similarity(x)[2].any()
    grad = torch.autograd.grad(similarity_loss(x, y, 3), x)[0]
    assert not grad[2].any() and grad.isfinite().all() and grad[0].any()


def test_constant_map_among_others_has_gradient_zero():
    x = features(6, 5, 4, 4)
    x[:, 3] = 0.0
    x.requires_grad_()
    grad = torch.autograd.grad(similarity_loss(x, torch.arange(6) % 3, 3), x)[0]
    assert grad.isfinite().all() and not grad[:, 3].any() and grad[:, 2].any()


def test_single_precision_agrees_with_double():
    x, y = features(64, 40), torch.arange(64) % 5
    single = x.float().requires_grad_()
    double = x.requires_grad_()
    given = torch.autograd.grad(similarity_loss(single, y, 5), single)[0]
    expected = torch.autograd.grad(similarity_loss(double, y, 5), double)[0]
    torch.testing.assert_close(given.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_head_convolves_maps_and_projects_vectors_without_bias():
    conv, dense = SimilarityHead((4, 6, 6)), SimilarityHead((9,))
    assert conv(torch.ones(2, 4, 6, 6)).shape == (2, 4, 6, 6)
    assert dense(torch.ones(2, 9)).shape == (2, 9)
    assert [tuple(p.shape) for p in conv.parameters()] == [(4, 4, 3, 3)]
    assert [tuple(p.shape) for p in dense.parameters()] == [(9, 9)]
    assert SimilarityHead((3, 4))(torch.ones(2, 3, 4)).shape == (2, 12)
