"""Weights in the version of the forward pass."""

import torch
from torch import nn

from pipeline.engine.in_flight import SavedTensors
from pipeline.learning.saved_weights import Kept


def test_the_parameters_themselves_where_nobody_steps_them_meanwhile():
    layer = nn.Linear(3, 2)
    weight, bias = Kept(layer.weight, layer.bias).tensors()
    assert weight.data_ptr() == layer.weight.data_ptr() and bias.data_ptr() == layer.bias.data_ptr()
    assert not weight.requires_grad and not bias.requires_grad


def test_copies_where_the_runtime_steps_them_meanwhile_and_its_bytes_are_counted():
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    saved = SavedTensors(layer.parameters(), layer.parameters())
    with saved.watch():
        kept = Kept(layer.weight, layer.bias)
    with torch.no_grad():
        layer.weight.add_(1.0)
        layer.bias.add_(1.0)
    assert all(torch.equal(given, wanted) for given, wanted in zip(kept.tensors(), before))
    assert all(torch.equal(given, wanted) for given, wanted in zip(kept.tensors(), before)), "asked twice"
    assert saved.num_bytes == (6 + 2) * 4


def test_weights_that_nobody_trains_are_kept_as_they_are():
    layer = nn.Linear(3, 2).requires_grad_(False)
    weight, bias = Kept(layer.weight, layer.bias).tensors()
    assert torch.equal(weight, layer.weight) and torch.equal(bias, layer.bias)


def test_a_parameter_that_is_not_trained_is_kept_too():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert torch.equal(Kept(layer.weight, layer.bias).tensors()[1], layer.bias)
