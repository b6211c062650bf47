"""The random codes of the classes."""

import torch
import torch.nn.functional as F
from rule_builders import batch

from pipeline.learning.similarity import similarity
from pipeline.learning.target_projection import NUM_BITS, TargetProjection


def test_projection_is_drawn_within_the_fan_in_and_has_no_parameters():
    target = TargetProjection(25)
    assert target.matrix.shape == (25, NUM_BITS) and 0.19 < target.matrix.abs().max() <= 0.2
    assert list(target.parameters()) == [] and list(target.state_dict()) == ["matrix"]
    assert TargetProjection(1).matrix.shape == (2, NUM_BITS)


def test_losses_are_those_of_the_projected_one_hot_labels():
    target = TargetProjection(5).double()
    y = batch((2,))[1]
    projected = F.one_hot(y, 5).double() @ target.matrix
    scores = torch.randn(16, NUM_BITS, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(scores, (projected > 0).double())
    torch.testing.assert_close(target.pred_loss(scores, y), expected, rtol=1e-12, atol=0)
    maps = torch.randn(16, 6, 3, 3, dtype=torch.float64)
    expected = (similarity(maps) - similarity(projected)).square().mean()
    torch.testing.assert_close(target.sim_loss(maps, y), expected, rtol=1e-10, atol=0)


def test_the_class_whose_code_is_likeliest_is_the_answer():
    target = TargetProjection(5).double()
    scores = torch.randn(16, NUM_BITS, dtype=torch.float64)
    bits = (target.matrix > 0).double()
    likelihood = -F.binary_cross_entropy_with_logits(
        scores.unsqueeze(1).expand(16, 5, NUM_BITS), bits.expand(16, 5, NUM_BITS), reduction="none"
    ).sum(2)
    decoded = target.decode(scores)
    torch.testing.assert_close(decoded.log_softmax(1), likelihood.log_softmax(1), rtol=1e-10, atol=1e-12)
    binary = TargetProjection(1).double()
    one_bit = binary.decode((binary.matrix[[0, 1, 1]] > 0).double() * 2 - 1)
    assert one_bit.shape == (3, 1) and (one_bit[:, 0] > 0).tolist() == [False, True, True]
