import pytest
import torch

from pipeline.network.hard_units import Bernoulli, LocalWinner, NonDifferentiable, Sign, SoftLocalWinner, Step

EVERY = [Sign(), Step(), Bernoulli(), LocalWinner(2), SoftLocalWinner(2)]


@pytest.mark.parametrize("unit", EVERY, ids=lambda u: type(u).__name__)
def test_is_marked_has_no_parameters_and_leaves_its_input_alone(unit):
    v = torch.rand(3, 4)
    kept = v.clone()
    assert unit(v).shape == v.shape and torch.equal(v, kept)
    assert isinstance(unit, NonDifferentiable) and not list(unit.state_dict())


def test_thresholds_count_zero_as_above():
    v = torch.tensor([[-2.0, -0.0, 0.0, 1e-30, -1e-30]])
    assert Sign()(v).tolist() == [[-1, 1, 1, 1, -1]]
    assert Step()(v).tolist() == [[0, 1, 1, 1, 0]]


@pytest.mark.parametrize("unit", EVERY[:3], ids=lambda u: type(u).__name__)
def test_thresholds_and_samples_have_zero_gradient_and_a_graph(unit):
    v = torch.rand(3, 4, requires_grad=True)
    unit(v).sum().backward()
    assert torch.equal(v.grad, torch.zeros(3, 4))


def test_bernoulli_draws_anew_with_the_given_probabilities():
    unit = Bernoulli().eval()
    v = torch.tensor([0.0, 0.25, 1.0]).expand(10_000, 3)
    torch.manual_seed(0)
    first, second = unit(v), unit(v)
    assert set(first.unique().tolist()) == {0.0, 1.0} and not torch.equal(first, second)
    # 3 standard errors of 1e4 draws are 0.013.
    assert first.mean(0).tolist() == pytest.approx([0.0, 0.25, 1.0], abs=0.013)
    assert first.mean(0)[0] == 0 and first.mean(0)[2] == 1


def test_o_l9_exactly_one_winner_per_group_the_lowest_index_on_ties():
    """O-L9: a group of local winners keeps exactly one, of equal ones the first."""
    v = torch.tensor([[1.0, 3.0, 3.0, -1.0, -2.0, -1.5, -1.5, -9.0], [0.0] * 8])
    assert LocalWinner(4)(v).tolist() == [[0, 3, 0, 0, 0, -1.5, 0, 0], [0] * 8]
    ones = torch.ones(2, 8, requires_grad=True)
    out = LocalWinner(4)(ones)
    out.sum().backward()
    assert out.tolist() == ones.grad.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0]] * 2


def test_soft_winners_share_one_in_each_group():
    v = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    out = SoftLocalWinner(4)(v)
    torch.testing.assert_close(out.view(5, 3, 4).sum(2), torch.ones(5, 3, dtype=torch.float64))
    assert torch.equal(out[:, 4:8], v[:, 4:8].softmax(1))
    assert torch.autograd.gradcheck(SoftLocalWinner(4), v)


def test_a_group_shows_its_size():
    assert repr(LocalWinner(4)) == "LocalWinner(group=4)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_are_as_rare_as_they_should_be_in_bfloat16_too(dtype):
    """Its own random numbers are multiples of 1/256, of which 0 alone would come four times too often."""
    p = torch.full((1_000_000,), 2.0**-10, dtype=dtype)
    drawn = Bernoulli()(p)
    assert drawn.dtype == dtype
    # 3 standard errors of 1e6 draws are 9.4e-5.
    assert drawn.float().mean().item() == pytest.approx(2.0**-10, abs=9.4e-5)
