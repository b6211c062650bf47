import pickle

import pytest
import torch
from torch import nn

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.models._layers import MaxPool
from pipeline.network.block import build_block
from pipeline.network.shapes import infer_shapes

vgg8b, vgg11b = (registry.load("pipeline.models", name, "model") for name in ("vgg8b", "vgg11b"))


def num_parameters(blueprints):
    with torch.device("meta"):
        return sum(p.numel() for b in blueprints for p in b.make().parameters())


@pytest.mark.parametrize(
    ("model", "shape", "num_outputs", "width", "millions"),
    [
        (vgg8b, (1, 28, 28), 10, 1.0, 7.3),
        (vgg8b, (1, 28, 28), 10, 2.0, 28.2),
        (vgg8b, (3, 32, 32), 10, 1.0, 8.9),
        (vgg8b, (3, 32, 32), 100, 1.0, 9.0),
        (vgg8b, (3, 96, 96), 10, 1.0, 11.5),
        (vgg11b, (3, 32, 32), 10, 1.0, 11.6),
        (vgg11b, (3, 32, 32), 10, 2.0, 42.0),
        (vgg11b, (3, 32, 32), 10, 3.0, 91.3),
        (vgg11b, (3, 32, 32), 100, 1.0, 11.7),
        (vgg11b, (3, 32, 32), 100, 2.0, 42.1),
        (vgg11b, (3, 32, 32), 100, 3.0, 91.4),
    ],
)
def test_published_parameter_counts(model, shape, num_outputs, width, millions):
    assert round(num_parameters(model(shape, num_outputs, width=width)) / 1e6, 1) == millions


def test_map_sizes_of_vgg8b():
    shapes = infer_shapes(vgg8b((3, 32, 32), 10), (3, 32, 32))
    bodies = [(128, 32, 32), (256, 32, 32), (256, 16, 16), (512, 16, 16), (512, 8, 8), (512, 4, 4), (1024,), (10,)]
    assert [s.body_shape for s in shapes] == bodies
    sent = [(128, 32, 32), (256, 16, 16), (256, 16, 16), (512, 8, 8), (512, 4, 4), (512, 2, 2), (1024,), (10,)]
    assert [s.out_shape for s in shapes] == sent


def test_map_sizes_of_vgg11b():
    shapes = infer_shapes(vgg11b((3, 32, 32), 10), (3, 32, 32))
    assert [s.body_shape[0] for s in shapes] == [128, 128, 128, 256, 256, 512, 512, 512, 512, 1024, 10]
    assert [s.body_shape[1] for s in shapes[:-2]] == [32, 32, 32, 32, 16, 16, 8, 8, 4]


def test_odd_maps_lose_a_row_when_pooled():
    shapes = infer_shapes(vgg8b((1, 28, 28), 10), (1, 28, 28))
    assert [s.out_shape[1:] for s in shapes[:6]] == [(28, 28), (14, 14), (14, 14), (7, 7), (3, 3), (1, 1)]


def test_large_images_begin_with_a_large_kernel():
    blueprints = vgg8b((3, 65, 96), 10, width=0.25)
    with torch.device("meta"):
        first, second = (b.make().body.conv for b in blueprints[:2])
    assert (first.kernel_size, first.stride, first.padding) == ((7, 7), (2, 2), (3, 3))
    assert (second.kernel_size, second.stride, second.padding) == ((3, 3), (1, 1), (1, 1))
    assert [s.out_shape for s in infer_shapes(blueprints, (3, 65, 96))][5] == (128, 2, 3)
    with torch.device("meta"):
        assert vgg8b((3, 64, 64), 10)[0].make().body.conv.kernel_size == (3, 3)


def test_layers_of_the_blocks_in_order():
    with torch.device("meta"):
        blocks = [b.make() for b in vgg8b((3, 32, 32), 10, dropout=0.2, activation="leaky_relu")]
    assert [type(m) for m in blocks[1].body] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert [type(m) for m in blocks[1].outlet] == [nn.Dropout2d, MaxPool]
    assert [type(m) for m in blocks[2].outlet] == [nn.Dropout2d]
    assert [type(m) for m in blocks[6].body] == [nn.Flatten, nn.Linear, nn.BatchNorm1d, nn.LeakyReLU]
    assert type(blocks[6].outlet) is nn.Dropout
    assert [type(m) for m in blocks[7].body] == [nn.Linear] and type(blocks[7].outlet) is nn.Identity
    assert blocks[1].body.conv.bias is not None


def test_without_dropout_the_outlet_is_the_pool():
    with torch.device("meta"):
        blocks = [b.make() for b in vgg8b((3, 32, 32), 10)]
    assert type(blocks[0].outlet) is nn.Identity
    assert [type(m) for m in blocks[1].outlet] == [MaxPool]


def test_quarter_width_scales_convolutions_only():
    blueprints = vgg8b((3, 32, 32), 10, width=0.25)
    names = ["conv 3-32", "conv 32-64 pool", "conv 64-64", "conv 64-128 pool", *["conv 128-128 pool"] * 2]
    assert [b.name for b in blueprints] == [*names, "linear 512-1024", "linear 1024-10"]


def test_runs_and_keeps_its_weights_whatever_is_built():
    blueprints = pickle.loads(pickle.dumps(vgg8b((1, 16, 16), 4, width=0.05, init="zero_output")))
    blocks = [build_block(b, 3, i) for i, b in enumerate(blueprints)]
    x = torch.randn(2, 1, 16, 16)
    for block in blocks:
        x = block(x)
    assert x.shape == (2, 4) and torch.equal(x[0], blocks[-1].body.linear.bias)
    alone = build_block(blueprints[4], 3, 4)
    assert torch.equal(alone.body.conv.weight, blocks[4].body.conv.weight)


@pytest.mark.parametrize(
    ("shape", "options", "text"),
    [
        ((64,), {}, r"vgg8b reads images \(given: samples of shape \(64,\), expected: channels, height, width\)"),
        ((1, 8, 8), {}, r"vgg8b needs larger images \(given: images of 8 x 8, expected: at least 16 x 16\)"),
        ((3, 32, 32), {"width": 0.0}, r"a convolution needs at least one channel \(given: model.width = 0.0"),
        ((3, 32, 32), {"dropout": -0.1}, r"the dropout probability is out of range \(given: model.dropout = -0.1"),
    ],
)
def test_what_makes_no_network(shape, options, text):
    with pytest.raises(ConfigError, match=text):
        vgg8b(shape, 10, **options)


def test_hard_units_of_maps_and_no_groups_there():
    block = vgg8b((1, 16, 16), 10, width=0.05, activation="sign")[0].make()
    out = block.body.eval()(torch.randn(2, 1, 16, 16))
    assert set(out.unique().tolist()) == {-1.0, 1.0}
    with pytest.raises(ConfigError, match=r"wrong value for model.activation \(given: 'lwta1', str, expected: 'relu'"):
        registry.check_options(vgg8b, {"activation": "lwta1"}, "model")


def test_linear_blocks_behind_the_convolutions():
    names = [b.name for b in vgg8b((3, 32, 32), 10, linear_depth=2, linear_width=300)]
    assert names[6:] == ["linear 2048-300", "linear 300-300", "linear 300-10"]
    with torch.device("meta"):
        last = vgg8b((3, 32, 32), 10, linear_depth=0)[-1].make()
    assert last.body.linear.in_features == 2048 and last(torch.empty(2, 512, 2, 2, device="meta")).shape == (2, 10)
