"""Residual networks as blocks."""

import pickle

import pytest
import torch
from torch import nn

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.models._residual import ResidualPair
from pipeline.network.block import build_block
from pipeline.network.shapes import infer_shapes

resnet18, wide_resnet = (registry.load("pipeline.models", name, "model") for name in ("resnet18", "wide_resnet"))


def build(model, shape, outputs, **options):
    return list(model(shape, outputs, **registry.check_options(model, options, "model")))


def parameters(blueprints):
    with torch.device("meta"):
        return sum(p.numel() for b in blueprints for p in b.make().parameters())


def test_published_parameter_counts():
    assert parameters(build(resnet18, (3, 32, 32), 10)) / 1e6 == pytest.approx(11.17, abs=0.01)
    # Torch's own for large images has 11.69 million, of which the layer for 1000 classes is 0.51.
    assert parameters(build(resnet18, (3, 224, 224), 1000)) / 1e6 == pytest.approx(11.69, abs=0.01)
    wide = build(wide_resnet, (3, 32, 32), 10, depth=28, width=10.0)
    assert parameters(wide) / 1e6 == pytest.approx(36.48, abs=0.01) and len(wide) == 14


def test_shapes_and_names_of_a_thin_net():
    blueprints = build(resnet18, (1, 28, 28), 10, width=0.25)
    shapes = [s.out_shape for s in infer_shapes(blueprints, (1, 28, 28))]
    maps = [(16, 28, 28)] * 3 + [(32, 14, 14)] * 2 + [(64, 7, 7)] * 2 + [(128, 4, 4)]
    assert shapes == [*maps, (128,), (10,)]
    assert [b.name for b in blueprints] == [
        "conv 1-16", *["residual 16-16"] * 2, "residual 16-32 / 2", "residual 32-32", "residual 32-64 / 2",
        "residual 64-64", "residual 64-128 / 2", "residual 128-128", "linear 128-10",
    ]  # fmt: skip


def test_local_losses_read_the_map_before_it_is_averaged():
    block = build(resnet18, (1, 16, 16), 10, width=0.1, dropout=0.3)[-2].make()
    x = torch.randn(2, 51, 2, 2)
    assert block.body(x).shape == (2, 51, 2, 2) and block(x).shape == (2, 51)
    assert [type(m) for m in block.outlet] == [nn.AdaptiveAvgPool2d, nn.Flatten]  # without dropout
    assert type(build(resnet18, (1, 16, 16), 10, dropout=0.3)[1].make().outlet[0]) is nn.Dropout2d


@pytest.mark.parametrize("pre_activation", [False, True])
def test_the_shortcut_is_the_identity_where_the_shape_stays(pre_activation):
    pair = ResidualPair((3, 3), 1, "relu", pre_activation).eval()
    nn.init.zeros_(pair.conv2.weight)
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(pair(x), x if pre_activation else x.relu())
    wider = ResidualPair((3, 6), 2, "relu", pre_activation)
    assert wider(x).shape == (2, 6, 3, 3)


def test_against_the_layers_written_out():
    post, pre = (ResidualPair((2, 4), 2, "tanh", p).eval() for p in (False, True))
    x = torch.randn(3, 2, 6, 6)
    h = torch.tanh(post.norm1(post.conv1(x)))
    torch.testing.assert_close(post(x), torch.tanh(post.norm2(post.conv2(h)) + post.shortcut(x)))
    u = torch.tanh(pre.norm1(x))
    around = nn.functional.conv2d(u, pre.shortcut.weight, stride=2)
    torch.testing.assert_close(pre(x), pre.conv2(torch.tanh(pre.norm2(pre.conv1(u)))) + around)


def test_weights_are_those_of_the_block_whatever_is_built():
    blueprints = pickle.loads(pickle.dumps(build(wide_resnet, (1, 8, 8), 4, width=0.5, init="zero_output")))
    blocks = [build_block(b, 3, i) for i, b in enumerate(blueprints)]
    x = torch.randn(2, 1, 8, 8)
    for block in blocks:
        x = block(x)
    assert x.shape == (2, 4) and torch.equal(x[0], blocks[-1].body.linear.bias)
    alone = build_block(blueprints[2], 3, 2)
    assert torch.equal(alone.body.pair.conv1.weight, blocks[2].body.pair.conv1.weight)


def test_large_images_begin_with_a_large_kernel_and_a_pool():
    with torch.device("meta"):
        conv = build(resnet18, (3, 96, 96), 10)[0].make().body.conv
    assert (conv.kernel_size, conv.stride) == ((7, 7), (2, 2))
    assert infer_shapes(build(resnet18, (3, 96, 96), 10), (3, 96, 96))[0].out_shape == (64, 24, 24)


@pytest.mark.parametrize(
    ("model", "shape", "options", "text"),
    [
        (resnet18, (64,), {}, r"resnet18 reads images \(given: samples of shape \(64,\), expected: channels, height"),
        (resnet18, (1, 8, 8), {"width": 0.001}, r"a convolution needs at least one channel \(given: model.width = 0.0"),
        (wide_resnet, (1, 8, 8), {"depth": 12}, r"three groups of pairs \(given: model.depth = 12, expected: 10, 16"),
    ],
)  # fmt: skip
def test_what_makes_no_network(model, shape, options, text):
    with pytest.raises(ConfigError, match=text):
        build(model, shape, 10, **options)
