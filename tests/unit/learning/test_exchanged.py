"""What replicas of a block exchange, from its rule."""

from pathlib import Path

import torch
from tests.support.runs import SMALL, merged
from torch import nn

from pipeline.config import Config
from pipeline.learning.exchanged import Exchanged, GradientShape, by_dtype, keeps_statistics
from pipeline.resolve import resolve


def resolved(changes):
    return resolve(Config.from_dict(merged(SMALL, changes)), Path("."))


def test_parameters_of_each_dtype_in_the_order_of_their_first_ones():
    half, whole = (nn.Parameter(torch.zeros(2, dtype=t)) for t in (torch.float16, torch.float32))
    other = nn.Parameter(torch.zeros(3, dtype=torch.float16))
    assert by_dtype([half, whole, other]) == {torch.float16: [half, other], torch.float32: [whole]}
    assert Exchanged((GradientShape(torch.float16, 5, 2), GradientShape(torch.float32, 2, 1))).gradient_bytes == 18


def test_a_layer_without_a_running_mean_keeps_no_statistics():
    assert keeps_statistics(nn.BatchNorm1d(3)) and not keeps_statistics(nn.Linear(3, 3))
    assert not keeps_statistics(nn.BatchNorm1d(3, track_running_stats=False))


def test_every_block_says_what_it_exchanges_and_a_frozen_one_nothing():
    found = resolved({"rule": {"name": "pred"}, "model": {"width": 8, "norm": "batch"}, "train": {"freeze": "1"}})
    linear, norm, decoder = 8 * 8 + 8, 2 * 8, 8 * 10 + 10
    assert found.exchanged[2].gradients == (GradientShape(torch.float32, linear + norm + decoder, 6),)
    assert found.exchanged[2].statistics == ((torch.float32, 8), (torch.float32, 8), (torch.int64, 1))
    assert found.exchanged[1] == Exchanged() and found.exchanged[-1].statistics == ()


def test_emulated_compute_exchanges_gradients_of_the_true_size():
    true, emulated = (resolved({"rule": {"name": "dfa"}, **more}) for more in ({}, {"chaos": {"compute_s": 0.001}}))
    assert true.exchanged == emulated.exchanged and true.trained_bytes == tuple(
        each.gradient_bytes for each in true.exchanged
    )
