"""The pooled head and its sizes."""

import pytest
import torch
from rule_builders import make_rule
from torch import nn

from pipeline import registry
from pipeline.learning.heads import PooledHead, clear_output, pool_sizes
from pipeline.network.block import Block

# Nøkland and Eidnes: channels, edge of the map -> pooled (height, width), for each model, edge of the image and dimdec.
TABLE = {
    "VGG8B 32, 2048": (
        2048,
        [(128, 32), (256, 32), (256, 16), (512, 16), (512, 8), (512, 4)],
        [(4, 4), (2, 4), (2, 4), (2, 2), (2, 2), (2, 2)],
    ),
    "VGG8B 28, 1024": (
        1024,
        [(128, 28), (256, 28), (256, 14), (512, 14), (512, 7), (512, 3)],
        [(2, 4), (2, 2), (2, 2), (1, 2), (1, 2), (1, 2)],
    ),
    "VGG8B 32, 4096": (
        4096,
        [(128, 32), (256, 32), (256, 16), (512, 16), (512, 8), (512, 4)],
        [(4, 8), (4, 4), (4, 4), (2, 4), (2, 4), (2, 4)],
    ),
    "VGG11B 32, 2048": (
        2048,
        [(128, 32), (128, 32), (128, 32), (256, 32), (256, 16), (512, 16), (512, 8), (512, 8), (512, 4)],
        [(4, 4), (4, 4), (4, 4), (2, 4), (2, 4), (2, 2), (2, 2), (2, 2), (2, 2)],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_o_s8_pooled_sizes_are_those_of_the_table(name):
    """O-S8: maps are pooled to the sizes that the published code has for VGG8B and VGG11B."""
    dimdec, maps, expected = TABLE[name]
    for (channels, edge), pooled in zip(maps, expected, strict=True):
        kernel, found = pool_sizes((channels, edge, edge), dimdec)
        assert found == pooled
        head = PooledHead((channels, edge, edge), 10, dimdec)
        assert head.linear.in_features == channels * pooled[0] * pooled[1]
        assert head.pool.kernel == kernel


@pytest.mark.parametrize("edges", [(28, 28), (7, 7), (3, 3), (5, 9)])
def test_head_takes_a_map_that_the_kernel_does_not_divide(edges):
    head = PooledHead((4, *edges), 3, 16)
    nn.init.ones_(head.linear.weight)
    assert head(torch.ones(2, 4, *edges)).shape == (2, 3)


def test_padding_zeros_count_in_the_mean():
    head = PooledHead((1, 3, 3), 1, 4)
    assert head.pool.kernel == (2, 2) and head.pool.padding == (1, 1)
    nn.init.ones_(head.linear.weight)
    nn.init.zeros_(head.linear.bias)
    # Nine ones in four windows of four cells: the mean over cells, summed, is 9/4.
    assert head(torch.ones(1, 1, 3, 3)).item() == 9 / 4


def test_a_small_map_and_a_vector_are_not_pooled():
    assert PooledHead((4, 2, 2), 3, 16).pool.kernel == (1, 1)
    assert PooledHead((100,), 3, 16).linear.in_features == 100


def test_weight_starts_at_zero_and_bias_does_not():
    torch.manual_seed(0)
    head = PooledHead((8,), 3, 16)
    assert not head.linear.weight.any() and head.linear.bias.all()


def test_clear_output_clears_the_last_linear_weight_alone():
    torch.manual_seed(0)
    block = clear_output(Block(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))))
    first, _, last = block.body
    assert first.weight.all() and last.bias.all() and not last.weight.any()


def test_clear_output_leaves_a_fixed_weight_as_it_is():
    torch.manual_seed(0)
    block = Block(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2).requires_grad_(False)))
    assert all(layer.weight.all() for layer in clear_output(block).body)


def test_clear_output_leaves_a_block_without_linear_layer_as_it_is():
    torch.manual_seed(0)
    block = Block(nn.Conv2d(2, 3, 1))
    assert clear_output(block).body.weight.all()


LINE, CUBE = (nn.Conv1d(2, 3, 1), (2, 90)), (nn.Conv3d(2, 3, 1), (2, 3, 5, 6))


@pytest.mark.parametrize(("layer", "in_shape"), [LINE, CUBE], ids=["line", "cube"])
@pytest.mark.parametrize(("rule", "options"), [
    ("sim", {}), ("predsim", {}), ("glob_sim", {}), ("pred", {"unsupervised": "sim", "alpha": 0.5}),
    ("pred", {"dimdec": 269}), ("sim_bio", {"dimdec": 269}), ("pred_bio", {"dimdec": 269}),
    ("predsim_bio", {"dimdec": 269}), ("linear_decoder", {"dimdec": 269}),
])  # fmt: skip
def test_maps_of_one_and_three_dimensions_are_refused_where_they_would_be_one_long_vector(
    rule, options, layer, in_shape
):
    build = registry.load("pipeline.rules", rule, "rule")
    given = rf"given: {type(layer).__name__} and an output of shape \(3, .*, expected: \(channels, height, width\)\)"
    with pytest.raises(ValueError, match=rf"knows maps of a height and a width \({given}\. Take nn.Conv2d with"):
        make_rule(build, Block(nn.Sequential(layer, nn.ReLU())), in_shape, **options)


@pytest.mark.parametrize("rule", ["pred", "sim_bio", "pred_bio", "predsim_bio", "linear_decoder"])
def test_few_features_are_read_as_a_vector_whatever_they_are(rule):
    build = registry.load("pipeline.rules", rule, "rule")
    assert make_rule(build, Block(nn.Sequential(nn.Conv1d(2, 3, 1), nn.ReLU())), (2, 9)).spec.body_shape == (3, 9)
