import pickle
from functools import partial

import torch
from torch import nn

from pipeline.network.block import Block, Blueprint, build_block


def dense(num_in, num_out):
    return Block(nn.Linear(num_in, num_out))


def weights(seed, index):
    blueprint = Blueprint(partial(dense, 3, 2), "linear 3-2")
    return build_block(blueprint, seed, index).body.weight


def test_forward_is_the_outlet_of_the_body():
    x = torch.randn(4, 3)
    body, outlet = nn.Linear(3, 6), nn.MaxPool1d(2)
    assert torch.equal(Block(body, outlet)(x), outlet(body(x)))
    assert torch.equal(Block(body)(x), body(x))


def test_a_body_alone_has_no_further_weights():
    assert [n for n, _ in Block(nn.Linear(3, 2)).named_parameters()] == ["body.weight", "body.bias"]
    assert list(Block(nn.Linear(3, 2)).outlet.parameters()) == []


def test_initial_weights_go_by_seed_and_index_alone():
    first = weights(0, 1)
    torch.randn(100)
    assert torch.equal(weights(0, 1), first)
    assert not torch.equal(weights(0, 2), first)
    assert not torch.equal(weights(1, 1), first)


def test_building_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    weights(0, 0)
    assert torch.equal(torch.rand(2), expected)


def test_blueprints_travel():
    blueprint = pickle.loads(pickle.dumps(Blueprint(partial(dense, 3, 2), "linear 3-2")))
    assert torch.equal(build_block(blueprint, 0, 1).body.weight, weights(0, 1))
    assert (blueprint.name, blueprint.seed_free) == ("linear 3-2", False)
