import re

import pytest
import torch
from rule_builders import conv, make_rule
from torch import nn

from pipeline.learning.elman_block import ElmanBlock
from pipeline.learning.unit_split import parts_of_unit, split_at_unit
from pipeline.models import mlp
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli, Sign
from pipeline.rules import am_mem, dtp, eqprop, ifa, tp


@pytest.mark.parametrize(
    ("activation", "f", "g"), [("tanh", nn.Tanh, None), ("bernoulli", nn.Sigmoid, Bernoulli), ("sign", nn.Tanh, Sign)]
)
def test_parts_by_their_roles(activation, f, g):
    block = mlp.build((1, 2, 2), 3, width=5, norm="none", activation=activation)[0].make()
    split = split_at_unit(block, "lra")
    assert [type(m) for m in split.before] == [nn.Flatten] and split.affine is block.body.linear
    assert type(split.f) is f and (split.g is None if g is None else type(split.g) is g)


def test_a_linear_block_has_the_identity_for_a_unit():
    split = split_at_unit(mlp.build((4,), 3, depth=0)[0].make(), "lra")
    v = torch.randn(2, 3)
    assert split.before == () and split.f(v) is v and split.g is None and split.hard(v) is v


def test_hard_calls_g():
    split = split_at_unit(Block(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), Sign())), "lra")
    assert split.hard(torch.tensor([[0.5, -0.1]])).tolist() == [[1, -1]]


def test_a_half_block_begins_with_the_unit_below_and_knows_the_one_ahead():
    first, second, last = (
        b.make() for b in mlp.build((4,), 3, depth=2, norm="none", activation="sign", boundary="half")
    )
    split = split_at_unit(second, "lra_diff")
    assert [type(m) for m in split.before] == [nn.Tanh, Sign] and type(split.f) is nn.Identity
    assert [type(m) for m in parts_of_unit(tuple(second.ahead), "lra_diff")] == [nn.Tanh, Sign]
    assert split_at_unit(first, "lra_diff").before == () and last.ahead is None


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Tanh()], r"lra cannot split .* \(given: BatchNorm1d, Tanh behind"),
        ([nn.Linear(2, 2), nn.PReLU()], r"given: PReLU behind"),
        ([nn.Linear(2, 2), Sign(), nn.Tanh()], r"given: Sign, Tanh behind"),
        ([nn.Linear(2, 2), Sign(), Sign()], r"Set model.norm to none and model.dropout to 0"),
        ([nn.Linear(2, 2, bias=False)], r"lra is a rule of fully connected layers .*expected: nn.Linear with a bias"),
        ([nn.Tanh()], r"lra cannot find the affine layer"),
    ],
)
def test_blocks_of_another_form(layers, text):
    with pytest.raises(ValueError, match=text):
        split_at_unit(Block(nn.Sequential(*layers)), "lra")


def test_convolutions_are_refused():
    with pytest.raises(ValueError, match=r"of fully connected layers \(given: Conv2d.* Choose the model mlp"):
        split_at_unit(conv(2, 3), "lra")


def am_mem_of(block, rule):
    make_rule(am_mem.build, block, (2,))


class Masked(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight.tril(), self.bias)


def hooked():
    linear = nn.Linear(2, 2)
    linear.register_forward_hook(lambda module, args, out: 2 * out)
    return linear


@pytest.mark.parametrize("takes", [split_at_unit, ElmanBlock.of, am_mem_of], ids=["units", "elman", "am_mem"])
@pytest.mark.parametrize(
    ("layer", "given"),
    [(Masked(2, 2), "Masked"), (hooked(), "hooks in the block"),
     (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "ParametrizedLinear")],
    ids=["subclass", "hook", "weight_norm"],
)  # fmt: skip
def test_a_linear_layer_that_maps_by_more_than_its_weight_is_refused(takes, layer, given):
    """By hand another function would be trained."""
    text = rf"[a-z_]+ computes a linear layer by hand, .*\(given: {given}, expected: nn.Linear itself, without masks"
    with pytest.raises(ValueError, match=text) as caught:
        takes(Block(layer), "lra")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", [tp, dtp, ifa, eqprop], ids=lambda module: module.__name__.rpartition(".")[2])
@pytest.mark.parametrize(
    ("front", "in_shape"), [([], (2, 6)), ([nn.Flatten(2)], (2, 3, 2))], ids=["nothing", "flattens-some"]
)
def test_a_linear_layer_over_the_last_of_several_dimensions_is_refused(rule, front, in_shape):
    body = nn.Sequential(*front, nn.Linear(6, 5), nn.Hardsigmoid() if rule is eqprop else nn.Tanh())
    with pytest.raises(ValueError, match=rf" takes vectors \(given: samples of shape {re.escape(str(in_shape))} at nn"):
        make_rule(rule.build, Block(body), in_shape)
