import pickle

import pytest
import torch
from torch import nn

from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.models import mlp
from pipeline.network import hard_units
from pipeline.network.block import build_block


def built(*args, **options):
    return [build_block(b, 0, i) for i, b in enumerate(mlp.build(*args, **options))]


@pytest.mark.parametrize(
    ("shape", "width", "millions"), [((1, 28, 28), 1024, 2.9), ((3, 32, 32), 3000, 27.3)]
)
def test_published_parameter_counts(shape, width, millions):
    with torch.device("meta"):
        count = sum(p.numel() for b in mlp.build(shape, 10, depth=3, width=width) for p in b.make().parameters())
    assert round(count / 1e6, 1) == millions


def test_layers_of_a_hidden_block_in_order():
    first, second, third, last = built((1, 4, 4), 3, width=8, dropout=0.1)
    assert [type(m) for m in first.body] == [nn.Flatten, nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert [type(m) for m in second.body] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert all(type(b.outlet) is nn.Dropout and b.outlet.p == 0.1 for b in (first, second, third))
    assert [type(m) for m in last.body] == [nn.Linear]
    assert type(last.outlet) is nn.Identity
    assert first.body.linear.bias is not None


def test_each_norm_stands_where_its_paper_puts_it():
    assert [type(m) for m in built((5,), 3, norm="layer")[0].body] == [nn.Linear, nn.LayerNorm, nn.ReLU]
    assert [type(m) for m in built((5,), 3, norm="none")[0].body] == [nn.Linear, nn.ReLU]
    mertens = built((2,), 1, width=[100, 100, 10], norm="l2", activation="mish")
    x = torch.randn(6, 2)
    h = mertens[0].body(x)
    z = nn.functional.mish(mertens[0].body.linear(x))
    assert torch.equal(h, z / z.norm(dim=1, keepdim=True))
    assert [b.body.linear.out_features for b in mertens] == [100, 100, 10, 1]


def test_l2_leaves_a_row_of_zeros_finite():
    normalise = mlp.build((2,), 1, norm="l2", activation="relu")[0].make().body.norm
    z = torch.zeros(2, 3, requires_grad=True)
    out = normalise(z)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(2, 3)) and z.grad.isfinite().all()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "sigmoid", "mish", "gelu", "silu"])
def test_every_activation_is_torchs_own_and_not_in_place(activation):
    body = built((5,), 3, activation=activation, norm="none")[0].body
    x = torch.randn(4, 5)
    before = body.linear(x)
    kept = before.clone()
    assert torch.equal(body.activation(before), getattr(nn.functional, activation)(kept))
    assert torch.equal(before, kept)


@pytest.mark.parametrize(
    ("activation", "layers"),
    [
        ("softsign", [nn.Softsign]), ("relu6", [nn.ReLU6]), ("softplus", [nn.Softplus]), ("hard_tanh", [nn.Hardtanh]),
        ("clip", [nn.Hardtanh]),
        ("sign", [nn.Tanh, hard_units.Sign]), ("signum", [nn.Tanh, hard_units.Step]),
        ("bernoulli", [nn.Sigmoid, hard_units.Bernoulli]), ("lwta1", [nn.Tanh, hard_units.LocalWinner]),
        ("lwta2", [nn.Hardtanh, hard_units.LocalWinner]), ("slwta1", [nn.Tanh, hard_units.SoftLocalWinner]),
        ("slwta2", [nn.Hardtanh, hard_units.SoftLocalWinner]),
    ],
)  # fmt: skip
def test_units_of_a_smooth_and_a_hard_part(activation, layers):
    body = built((5,), 3, width=8, activation=activation, norm="layer", group=2)[0].body
    assert [type(m) for m in body] == [nn.Linear, nn.LayerNorm, *layers]
    assert activation != "clip" or torch.equal(body[-1](torch.tensor([-1.0, 0.5, 2.0])), torch.tensor([0.0, 0.5, 1.0]))
    assert getattr(body[-1], "group", 2) == 2
    a = torch.linspace(-7, 7, 24).view(3, 8)
    before = a.clone()
    body.activation(a)
    assert torch.equal(a, before)


@pytest.mark.parametrize("boundary", ["post", "half"])
def test_each_hidden_block_has_its_own_unit(boundary):
    options = {"width": 8, "norm": "none", "boundary": boundary}
    blocks = built((5,), 3, depth=2, activation=["sign", "relu"], **options)
    hard = hard_units.Sign
    units = {"post": [[nn.Linear, nn.Tanh, hard], [nn.Linear, nn.ReLU], [nn.Linear]],
             "half": [[nn.Linear], [nn.Tanh, hard, nn.Linear], [nn.ReLU, nn.Linear]]}[boundary]  # fmt: skip
    assert [[type(m) for m in block.body] for block in blocks] == units
    assert [[type(m) for m in block.ahead or ()] for block in blocks] == (
        [[], [], []] if boundary == "post" else [[nn.Tanh, hard], [nn.ReLU], []]
    )


def test_one_name_and_a_list_of_it_are_the_same_network():
    named, listed = (built((5,), 3, depth=2, activation=given) for given in ("tanh", ["tanh", "tanh"]))
    for one, two in zip(named, listed, strict=True):
        assert [type(m) for m in one.body] == [type(m) for m in two.body]
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_slope_of_leaky_relu():
    assert built((5,), 3, activation="leaky_relu")[0].body.activation.negative_slope == 0.01


def test_output_shape_of_each_block():
    x = torch.randn(4, 1, 8, 8)
    sizes = []
    for block in built((1, 8, 8), 10, width=[7, 6]):
        x = block(x)
        sizes.append(tuple(x.shape))
    assert sizes == [(4, 7), (4, 6), (4, 10)]


def test_zero_init_clears_linear_maps_only():
    for block in built((5,), 3, norm="batch", init="zero"):
        assert not block.body.linear.weight.any() and not block.body.linear.bias.any()
    assert built((5,), 3, norm="batch", init="zero")[0].body.norm.weight.all()


def test_zero_output_clears_the_weight_of_the_last_block_only():
    *hidden, last = built((5,), 3, init="zero_output")
    assert not last.body.linear.weight.any() and last.body.linear.bias.any()
    assert all(b.body.linear.weight.all() for b in hidden)


def test_normal_weights_have_the_given_spread_and_biases_are_zero():
    blocks = built((50,), 40, width=60, init="normal", init_std=0.05)
    weights = torch.cat([b.body.linear.weight.flatten() for b in blocks])
    # 12600 draws: 3 standard errors of the standard deviation are 2 %.
    assert weights.std().item() == pytest.approx(0.05, rel=0.02)
    assert not any(b.body.linear.bias.any() for b in blocks)
    assert not any(b.body.linear.weight.any() for b in built((5,), 3, init="normal", init_std=0, norm="none"))


def test_xavier_and_orthogonal_weights():
    for block in built((20,), 20, width=20, init="orthogonal"):
        weight = block.body.linear.weight
        torch.testing.assert_close(weight @ weight.t(), torch.eye(20), rtol=0, atol=1e-5)
        assert not block.body.linear.bias.any()
    for block in built((20,), 20, width=20, init="xavier"):
        bound = (6 / 40) ** 0.5
        assert 0.9 * bound < block.body.linear.weight.abs().max() <= bound and not block.body.linear.bias.any()


def test_fan_in_weights_are_torchs_own_without_biases():
    plain = built((20,), 5, width=16, norm="none")
    for given, block in zip(plain, built((20,), 5, width=16, norm="none", init="fan_in")):
        weight = block.body.linear.weight
        assert torch.equal(weight, given.body.linear.weight) and not block.body.linear.bias.any()
        assert 0.8 * weight.shape[1] ** -0.5 < weight.abs().max() <= weight.shape[1] ** -0.5


@pytest.mark.parametrize("activation", ["tanh", "sign", "slwta1"])
def test_blocks_that_meet_half_a_layer_earlier_make_the_same_network(activation):
    options = {"depth": 2, "width": 8, "norm": "none", "activation": activation}
    post, half = built((1, 2, 2), 3, **options), built((1, 2, 2), 3, **options, boundary="half")
    x = torch.randn(4, 1, 2, 2)
    outs = []
    for blocks in (post, half):
        out = x
        for block in blocks:
            out = block(out)
        outs.append(out)
    assert torch.equal(*outs)
    assert all(torch.equal(p, h) for a, b in zip(post, half) for p, h in zip(a.parameters(), b.parameters()))
    first, second, last = half
    assert [type(m) for m in first.body] == [nn.Flatten, nn.Linear] and "linear" in second.body._modules
    assert second.ahead(torch.zeros(1, 8)).shape == (1, 8) and last.ahead is None
    assert list(second.state_dict()) == ["body.linear.weight", "body.linear.bias"]
    assert all(b.ahead is None for b in post)


def test_a_linear_model_has_no_boundary_to_shift():
    (only,) = built((4,), 3, depth=0, norm="none", boundary="half")
    assert [type(m) for m in only.body] == [nn.Linear] and only.ahead is None


def test_weights_depend_on_seed_and_index_only():
    blueprints = pickle.loads(pickle.dumps(mlp.build((5,), 3, depth=2, width=4)))
    in_order = [build_block(b, 1, i) for i, b in enumerate(blueprints)]
    alone = build_block(mlp.build((5,), 3, depth=2, width=4)[1], 1, 1)
    assert all(torch.equal(a, b) for a, b in zip(in_order[1].parameters(), alone.parameters(), strict=True))
    other = build_block(blueprints[1], 2, 1)
    assert not torch.equal(other.body.linear.weight, alone.body.linear.weight)
    backwards = [build_block(blueprints[i], 1, i) for i in (2, 1, 0)][::-1]
    for one, two in zip(in_order, backwards, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))


def test_no_hidden_blocks_is_a_linear_model():
    (only,) = built((1, 4, 4), 3, depth=0)
    assert [type(m) for m in only.body] == [nn.Flatten, nn.Linear]


def test_names():
    assert [b.name for b in mlp.build((1, 28, 28), 10, depth=1, width=30)] == ["linear 784-30", "linear 30-10"]


def test_options_are_checked_by_the_registry():
    assert registry.check_options(mlp.build, {"width": [3, 4]}, "model")["width"] == [3, 4]
    with pytest.raises(ConfigError, match=r"wrong value for model.norm .*'none' or 'batch'"):
        registry.check_options(mlp.build, {"norm": "group"}, "model")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"depth": -1}, r"the depth is out of range \(given: model.depth = -1, expected: at least 0\)"),
        ({"depth": 2, "width": [3, 4, 5, 6]}, r"given: model.depth = 2, 4 in model.width\). Remove model.depth."),
        ({"width": [3, 0, 5]}, r"a block needs a unit \(given: model.width = \[3, 0, 5\], expected: at least 1\)"),
        ({"dropout": 1.0}, r"the dropout probability is out of range \(given: model.dropout = 1.0"),
        ({"init": "normal", "init_std": 0, "norm": "l2"}, r"cannot scale all-zero activations"),
        ({"activation": "lwta1", "width": 6}, r"into groups \(given: model.group = 4, 6 units, expected: a divisor"),
        ({"activation": "slwta2", "width": 8, "group": 0}, r"into groups \(given: model.group = 0, 8 units"),
        ({"activation": "lwta2", "width": 6, "norm": "none", "boundary": "half"}, r"units cannot be put into groups"),
        ({"activation": ["relu", "tanh"]}, r"a unit \(given: 2 in model.activation for 3 hidden layers, expected: as"),
        ({"activation": ["relu", "lwta1"], "width": [6, 6]}, r"into groups \(given: model.group = 4, 6 units"),
        ({"init": "normal"}, r"need a standard deviation \(given: model.init = 'normal' with no model.init_std"),
        ({"init": "normal", "init_std": -0.1}, r"model.init_std = -0.1, expected: model.init_std of at least 0"),
        ({"init_std": 0.1}, r"only normal .*init_std = 0.1 with model.init = 'default'\). Remove model.init_std"),
        ({"boundary": "half"}, r"nothing may stand between .*model.norm = 'batch', model.dropout = 0.0; expected"),
        ({"boundary": "half", "norm": "none", "dropout": 0.1}, r"model.norm = 'none', model.dropout = 0.1; expected"),
        ({"init": "zero", "norm": "l2"}, r"cannot scale all-zero activations .* Set model.norm to none"),
    ],
)
def test_options_that_make_no_network(options, text):
    with pytest.raises(ConfigError, match=text):
        mlp.build((5,), 3, **options)
