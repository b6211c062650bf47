import pickle
from collections import OrderedDict

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.block import Block, build_block
from pipeline.network.from_modules import blueprints_from, blueprints_of, check_picklable, cut_into_blocks


class Residual(nn.Module):
    """Transformer-like: attention and a feed-forward part, each around a shortcut."""

    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        h = self.norms[0](x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.feed_forward(self.norms[1](x))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Own(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


def linear_net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 10)
    )


def conv_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3),
        nn.PReLU(),
        nn.Dropout2d(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 10),
    )


def nested_net():
    inner = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    features = nn.Sequential(inner, nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AvgPool2d(2))
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh())
    return nn.Sequential(OrderedDict(features=features, head=head, out=nn.Linear(8, 10)))


def transformer():
    return nn.Sequential(
        nn.Unflatten(2, (8, 1)), nn.Flatten(2), nn.Linear(8, 8), Residual(8), Residual(8), Mean(), nn.Linear(8, 10)
    )


def reused_activation():
    act = nn.Tanh()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 10), act)


def weight_used_twice_in_one_block():
    layer, act = nn.Linear(8, 8), nn.Tanh()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sequential(act, layer, act, layer), nn.Linear(8, 10))


NETS = [linear_net, conv_net, nested_net, reused_activation, weight_used_twice_in_one_block, transformer]


def image_or_tokens(make):
    return torch.randn(5, 8, 8) if make is transformer else torch.randn(5, 1, 8, 8)


def kinds(module):
    return [type(m).__name__ for m in (module if isinstance(module, nn.Sequential) else [module])]


@pytest.mark.parametrize("make", NETS)
def test_blocks_in_a_row_are_the_network(make):
    torch.manual_seed(0)
    network = make()
    x = image_or_tokens(make)
    blocks = [build_block(pickle.loads(pickle.dumps(b)), 0, i) for i, b in enumerate(blueprints_of(network))]
    for training in (True, False):
        torch.manual_seed(1)
        expected = network.train(training)(x)
        torch.manual_seed(1)
        out = x
        for block in blocks:
            out = block.train(training)(out)
        assert torch.equal(out, expected)


@pytest.mark.parametrize("make", NETS)
def test_gradients_of_blocks_in_a_row_are_the_networks(make):
    torch.manual_seed(0)
    network = make().eval()
    x = image_or_tokens(make)
    blocks = [b.make().eval() for b in blueprints_of(network)]
    network(x).square().sum().backward()
    for block in blocks:
        x = block(x)
    x.square().sum().backward()
    ours = [p.grad for block in blocks for p in block.parameters()]
    assert all(torch.equal(a, b.grad) for a, b in zip(ours, network.parameters(), strict=True))


def test_where_a_network_is_cut():
    blocks = [part.block() for part in cut_into_blocks(conv_net())]
    assert [kinds(b.body) for b in blocks] == [["Conv2d", "GroupNorm", "ReLU"], ["Conv2d", "PReLU"], ["Linear"]]
    assert [kinds(b.outlet) for b in blocks] == [["Identity"], ["Dropout2d", "MaxPool2d", "Flatten"], ["Identity"]]


def test_leading_layers_join_the_first_block_and_dropout_is_its_outlet():
    first, last = (part.block() for part in cut_into_blocks(linear_net()))
    assert kinds(first.body) == ["Flatten", "Linear", "BatchNorm1d", "ReLU"]
    assert kinds(first.outlet) == ["Dropout"] and kinds(last.body) == ["Linear"]


def test_a_container_is_one_block_with_an_outlet_of_its_own():
    features, head, out = (part.block() for part in cut_into_blocks(nested_net()))
    assert kinds(features.body) == ["Conv2d", "ReLU", "Conv2d", "ReLU"] and kinds(features.outlet) == ["AvgPool2d"]
    assert kinds(head.body) == ["Flatten", "Linear", "Tanh"]
    assert kinds(out.body) == ["Linear"]


def test_all_of_the_last_block_is_body():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert kinds(cut_into_blocks(network)[-1].block().body) == ["Conv2d", "AdaptiveAvgPool2d", "Flatten"]


def test_names_are_the_users_own_or_say_what_a_block_is():
    assert [p.name for p in cut_into_blocks(nested_net())] == ["features", "head", "out"]
    assert [p.name for p in cut_into_blocks(conv_net())] == ["conv 1-4", "conv 4-6", "linear 54-10"]
    assert [p.name for p in cut_into_blocks(transformer())] == ["linear 8-8", "residual", "residual", "linear 8-10"]


def test_modules_of_a_list_are_one_block_each():
    own = Block(nn.Linear(4, 4), nn.Dropout(0.1))
    several = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Dropout(0.2))
    parts = cut_into_blocks([own, several, Residual(4)])
    blocks = [part.block() for part in parts]
    assert blocks[0] is own
    assert kinds(blocks[1].body) == ["Linear", "ReLU", "Linear"] and kinds(blocks[1].outlet) == ["Dropout"]
    assert kinds(blocks[2].body) == ["Residual"]
    assert [part.name for part in parts] == ["linear 4-4", "linear 4-4", "residual"]


def test_a_block_carries_its_own_weights_only():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1000), nn.Linear(1000, 2))
    sizes = [len(pickle.dumps(b)) for b in blueprints_of(network)]
    assert sizes[0] < 4000 < 12000 < sizes[1]


def test_the_users_object_and_other_copies_stay_as_they_are():
    network = conv_net()
    before = [p.clone() for p in network.parameters()]
    blueprints = blueprints_of(network)
    assert all(b.seed_free for b in blueprints)
    one, two = build_block(blueprints[0], 0, 0), build_block(blueprints[0], 99, 0)
    assert torch.equal(one.body[0].weight, two.body[0].weight)
    with torch.no_grad():
        one.body[0].weight.zero_()
    assert torch.equal(network[0].weight, before[0]) and torch.equal(two.body[0].weight, before[0])
    with torch.no_grad():
        network[0].weight.zero_()
    assert torch.equal(blueprints[0].make().body[0].weight, before[0])


def test_in_place_layers_are_undone_in_the_copy():
    network = conv_net()
    assert not blueprints_of(network)[0].make().body[2].inplace
    assert network[2].inplace
    assert not blueprints_from(conv_net)[0].make().body[2].inplace


@pytest.mark.parametrize("make", NETS)
def test_weights_of_a_function_depend_on_seed_and_index_only(make):
    blueprints = blueprints_from(make)
    assert not any(b.seed_free for b in blueprints)
    everything = [build_block(b, 5, i) for i, b in enumerate(blueprints)]
    torch.manual_seed(77)
    for i in reversed(range(len(blueprints))):
        alone = build_block(pickle.loads(pickle.dumps(blueprints[i])), 5, i).state_dict()
        assert all(torch.equal(a, b) for a, b in zip(alone.values(), everything[i].state_dict().values(), strict=True))
    other = build_block(blueprints[0], 6, 0).state_dict()
    assert any(not torch.equal(a, b) for a, b in zip(other.values(), everything[0].state_dict().values()))


def test_finding_the_blocks_leaves_the_random_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    blueprints_from(linear_net)
    assert torch.equal(torch.rand(4), expected)


def hooked():
    network = linear_net()
    network.register_forward_hook(lambda module, x, y: y * 2)
    return network


def tied():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def sharing_statistics():
    norm = nn.BatchNorm1d(4, affine=False)
    return nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm)


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (Residual(4), r"cannot take blocks from this module \(given: Residual, expected: nn.Sequential, or a list"),
        (Own(nn.Linear(2, 2)), r"does more than call its children \(given: Own with a forward or hooks of its own\)"),
        (hooked(), r"does more than call its children \(given: Sequential with"),
        (nn.Sequential(nn.ReLU()), r"the model has no layer with parameters \(given: 0, expected: at least 1\)"),
        ([], r"the model has no layer with parameters"),
        ([nn.Linear(2, 2), nn.ReLU()], r"a block has no parameters \(given: block 1, relu\). Join it to the block"),
        (nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2)), r"a lazy layer in block 1, linear 0-2\). Run the net"),
        (tied(), r"two blocks share a tensor \(given: blocks 0 and 1, expected: weights of their own\). Untie them"),
        (sharing_statistics(), r"two blocks share a tensor \(given: blocks 0 and 1"),
    ],
)
def test_networks_that_cannot_be_cut(network, text):
    with pytest.raises(ConfigError, match=text):
        cut_into_blocks(network)


def test_a_nested_container_with_a_forward_of_its_own_stays_whole():
    network = nn.Sequential(Own(nn.Linear(3, 3), nn.Dropout(0.1)), nn.Linear(3, 2))
    assert type(cut_into_blocks(network)[0].block().body) is Own
    x = torch.randn(2, 3)
    blocks = [b.make().eval() for b in blueprints_of(network)]
    assert torch.equal(blocks[1](blocks[0](x)), network.eval()(x))


def test_functions_that_cannot_travel():
    with pytest.raises(ConfigError, match=r"cannot send the function that builds .* \(given: .*at the top level"):
        blueprints_from(lambda: linear_net())
    with pytest.raises(ConfigError, match=r"cannot send it to a worker"):
        check_picklable(lambda: 0, "it")


def test_objects_that_cannot_travel():
    layer = nn.Linear(2, 2)
    layer.extra = lambda x: x
    with pytest.raises(ConfigError, match=r"cannot send the block 'linear 2-2' to a worker"):
        blueprints_of(nn.Sequential(layer))


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_objects_whose_weights_are_computed_cannot_travel(norm):
    expected = r"cannot send the block '.*' to a worker \(given: .*parametriz.* or name a function that builds the net"
    with pytest.raises(ConfigError, match=expected) as caught:
        blueprints_of(nn.Sequential(norm(nn.Linear(2, 2))))
    assert "\n" not in str(caught.value)


class Stubborn(nn.Linear):
    """Can be copied by nobody, and says so in two lines."""

    def __deepcopy__(self, memo):
        raise RuntimeError("there is one of me.\nSee elsewhere.")


def test_objects_that_cannot_be_copied():
    layer = nn.Linear(2, 2)
    layer.product = layer.weight * 2
    with pytest.raises(ConfigError, match=r"cannot copy a block \(given: linear 2-2, Only Tensors created explicitly"):
        blueprints_of(nn.Sequential(layer))
    with pytest.raises(ConfigError, match=r"there is one of me\. See elsewhere\.\)\. Name a function that builds the"):
        blueprints_of(nn.Sequential(Stubborn(2, 2)))
