import pytest
import torch
from tests.support.runs import SMALL, merged
from torch import nn

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.models import half_mlp, mlp
from pipeline.network.block import build_block
from pipeline.network.hard_units import Sign
from pipeline.resolve import resolve


def built(*args, **options):
    return [build_block(b, 0, i) for i, b in enumerate(half_mlp.build(*args, **options))]


def test_layers_of_each_block_in_order():
    first, second, last = built((1, 4, 4), 3, width=[8, 6], activation=["sign", "tanh"], dropout=0.2)
    assert [type(m) for m in first.body] == [nn.Flatten, nn.Linear, nn.BatchNorm1d]
    assert [type(m) for m in second.body] == [nn.Dropout, nn.Tanh, Sign, nn.Linear, nn.BatchNorm1d]
    assert [type(m) for m in last.body] == [nn.Dropout, nn.Tanh, nn.Linear]
    assert all(type(block.outlet) is nn.Identity for block in (first, second, last))
    assert [block.body.linear.bias is None for block in (first, second, last)] == [True, True, False]
    assert second.body.dropout.p == 0.2


def test_every_block_knows_the_unit_ahead():
    blocks = built((6,), 3, width=[8, 6], activation=["sign", "relu"])
    assert [[type(m) for m in block.ahead or ()] for block in blocks] == [[nn.Tanh, Sign], [nn.ReLU], []]


def test_a_rule_that_looks_ahead_trains_it(tmp_path):
    model = {"name": "half_mlp", "width": [8, 8], "norm": "none", "activation": "tanh", "bias": True}
    found = resolve(Config.from_dict(merged(SMALL, {"model": model, "rule": {"name": "lra_diff"}})), tmp_path)
    assert found.num_blocks == 3


def test_it_is_the_mlp_cut_elsewhere():
    options = {"activation": "relu", "norm": "none"}
    half = built((6,), 3, width=[8, 7], bias=True, **options)
    whole = [build_block(b, 0, i) for i, b in enumerate(mlp.build((6,), 3, width=[8, 7], **options))]
    x = torch.randn(5, 6)
    outs = []
    for blocks in (half, whole):
        out = x
        for block in blocks:
            out = block(out)
        outs.append(out)
    assert torch.equal(*outs)


def test_the_names_of_the_blocks_and_other_norms():
    assert [b.name for b in half_mlp.build((2, 3), 4, width=[8])] == ["linear 6-8", "linear 8-4"]
    assert [type(m) for m in built((6,), 3, width=[8], norm="layer")[0].body] == [nn.Linear, nn.LayerNorm]
    (only,) = built((6,), 3, width=[])
    assert [type(m) for m in only.body] == [nn.Linear]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": ["relu"]}, r"given: 1 in model.activation for 2 hidden layers, expected"),
        ({"activation": "lwta1", "width": [6, 8]}, r"units cannot be put into groups .*model.group = 4, 6 units"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        half_mlp.build((6,), 3, **options)
