"""How far inputs move, and which weight reads them."""

import math

import pytest
import torch
from torch import nn

from pipeline.engine.drift import axis_shift, block_shift, columns_of
from pipeline.network.block import Block


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_o_g4_an_axis_that_stays_and_one_that_moves_by_gaussian_steps():
    """O-G4: between two probes an axis that stays has moved by 0, and one with Gaussian steps by s sqrt(2 / pi) / std.
    """
    before, length = random(100_000, 2), 0.3
    now = before + torch.stack([torch.zeros(100_000), length * random(100_000, seed=1)], dim=1)
    found = axis_shift(before, now)
    assert found[0] == 0.0
    assert found[1].item() == pytest.approx(length * math.sqrt(2 / math.pi) / math.sqrt(1 + length**2), rel=0.01)


def test_an_axis_without_spread():
    """A feature that is 0 for every sample: still, or moved by any length, which the least spread then measures."""
    before = torch.zeros(5, 2)
    now = torch.tensor([[0.0, 2e-6]]).repeat(5, 1)
    assert axis_shift(before, now).tolist() == [0.0, pytest.approx(2.0)]
    assert axis_shift(torch.ones(1, 1), torch.ones(1, 1)).tolist() == [0.0]


def test_axes_are_features_or_channels_with_all_their_positions():
    before, now = random(6, 3, 4, 5), random(6, 3, 4, 5, seed=1)
    flat = [t.permute(0, 2, 3, 1).reshape(-1, 3) for t in (before, now)]
    assert torch.allclose(axis_shift(before, now), axis_shift(*flat))
    sequences = [t.reshape(6, 20, 3) for t in flat]
    assert torch.allclose(axis_shift(*sequences), axis_shift(*flat))
    assert axis_shift(before.bfloat16(), now.bfloat16()).dtype is torch.float32


def test_a_whole_input_by_its_length():
    before = random(6, 4)
    assert block_shift(before, before) == 0.0 and block_shift(before, -before) == pytest.approx(2.0)
    none = torch.zeros(6, 4)
    assert block_shift(none, none) == 0.0 and block_shift(none, before) == 1.0


class Flipped(nn.Module):
    def forward(self, x):
        return x.flip(-1)


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("layers", "in_shape", "expected"),
    [
        ([nn.Linear(4, 3)], (4,), ((1, -1), 1)),
        ([nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Linear(3, 2)], (4,), ((1, -1), 1)),
        ([nn.Linear(4, 3)], (7, 4), ((1, -1), 1)),
        ([nn.Conv2d(4, 3, 3)], (4, 5, 5), ((1, -1, 1, 1), 1)),
        ([nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)], (4, 4, 4), ((1, -1), 4)),
        ([nn.Conv2d(4, 4, 3, groups=2)], (4, 5, 5), None),
        ([nn.Flatten(), nn.Linear(28, 3)], (7, 4), None),
        ([Doubled(), nn.Linear(4, 3)], (4,), None),
        ([nn.ReLU()], (4,), None),
        ([Flipped(), nn.Linear(4, 3)], (4,), None),
        ([nn.Softmax(-1), nn.Linear(4, 3)], (4,), None),
        ([nn.Linear(4, 3)], (4, 5, 4), None),
    ],
)  # fmt: skip
def test_the_weight_that_reads_an_input(layers, in_shape, expected):
    found = columns_of(Block(nn.Sequential(*layers)), in_shape)
    assert (found and found[1:]) == expected
    if found is not None:
        weight = next(layer.weight for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d))
        num_axes = in_shape[0] if len(in_shape) == 3 else in_shape[-1]
        assert found[0] is weight and found[2] * num_axes == weight.shape[1]
