"""Aux: autograd through the auxiliary net is the oracle; without one it is pred."""

from functools import partial

import pytest
import torch
from rule_builders import CLASSES, assert_same, batch, conv, dense, gradients, make_rule, make_rules, read_out
from torch import nn

from pipeline.data.position_tasks import PositionClasses
from pipeline.data.task import Classification
from pipeline.errors import ConfigError
from pipeline.learning.aux_head import AuxHead, FullNorm, ReadOut
from pipeline.learning.heads import PooledHead
from pipeline.learning.rule import BlockSpec
from pipeline.models import transformer
from pipeline.network.block import Block, Blueprint, build_block
from pipeline.rules import interlock, pred
from pipeline.rules.aux import build

LENGTH, TOKENS, WIDTH = 6, 11, 8


def with_options(**options):
    return partial(build, read_out=ReadOut(**options))


def unfreeze(rule):
    nn.init.normal_(rule.head.linear.weight)
    return rule


def hidden_blocks(num_layers=1, count=3):
    """The hidden blocks of a small transformer and what stands above each, in float64; and the whole of it."""
    blueprints = transformer.build(
        (LENGTH,), TOKENS, depth=count * num_layers, layers_per_block=num_layers, width=WIDTH, heads=2
    )
    return blueprints, [build_block(b, 0, k) for k, b in enumerate(blueprints)]


def transformer_rule(index, num_layers=1, above=True, make=build, **options):
    blueprints, blocks = hidden_blocks(num_layers)
    task, inner = PositionClasses(TOKENS, (LENGTH,)), (LENGTH, WIDTH)
    upper = blueprints[index + 1] if above and index + 1 < len(blueprints) else None
    torch.manual_seed(5)
    spec = BlockSpec(index, 3, (LENGTH,) if index == 0 else inner, inner, inner, task, 0, upper)
    return make(blocks[index], spec, read_out=ReadOut(**options))


def tokens(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(TOKENS, (4, LENGTH), generator=generator), torch.randint(
        TOKENS, (4, LENGTH), generator=generator)  # fmt: skip


@pytest.mark.parametrize("block", [lambda: dense(6, 8), lambda: dense(6, 8, norm=True), lambda: conv(2, 5, pool=True)],
                         ids=["closed-form", "normalised", "maps"])  # fmt: skip
def test_linear_is_pred_without_its_pooling_bit_for_bit(block):
    in_shape = (2, 6, 6) if block().outlet.__class__ is nn.MaxPool2d else (6,)
    found = []
    for make in (build, partial(pred.build, dimdec=10**6)):
        torch.manual_seed(3)
        rule = make_rule(make, block(), in_shape)
        torch.manual_seed(4)
        rule = unfreeze(rule)
        x, y = batch(in_shape)
        out, context = rule(x, y)
        loss = rule.learn(context, (), weight=0.5).loss
        found.append([out, loss, rule.decode(context), *gradients(rule), *rule.state_dict().values()])
    assert all(map(torch.equal, *found))
    assert type(rule.head) is PooledHead


HEADS = {
    "mlp of a vector": ({"head": "mlp"}, lambda: dense(6, 8), (6,)),
    "mlp of maps": ({"head": "mlp"}, lambda: conv(2, 5, pool=True), (2, 8, 8)),
    "mlp-sr": ({"head": "mlp_sr"}, lambda: conv(2, 5), (2, 8, 8)),
    "normed": ({"norm": True}, lambda: dense(6, 8), (6,)),
}


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_autograds_through_the_auxiliary_net(name):
    options, block, in_shape = HEADS[name]
    rule = unfreeze(make_rule(with_options(**options), block(), in_shape))
    x, y = batch(in_shape)
    loss = rule.spec.task.loss(rule.head(rule.block(x)), y)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    learned = rule.learn(rule(x, y)[1], (), weight=0.5)
    assert torch.equal(learned.loss, loss.detach()) and learned.upstream == ()
    assert_same(gradients(rule), [g / 2 for g in expected])


def test_the_nets_of_dgl_have_their_layers():
    """Belilovsky et al. 2019: 1 x 1 convolutions at a quarter of the side; hidden layers four times the channels."""
    rule = make_rule(with_options(head="mlp_sr"), conv(2, 5), (2, 9, 9))
    kinds = [type(m).__name__ for m in (*rule.head.reduce, *rule.head.mlp)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 3 + ["Linear", "BatchNorm1d", "ReLU"] * 3
    assert rule.head.reduced == (3, 3) and rule.head.linear.in_features == 20
    assert {m.kernel_size for m in rule.head.reduce if isinstance(m, nn.Conv2d)} == {(1, 1)}
    x, y = batch((2, 9, 9))
    scores = rule.decode(rule(x, y)[1])
    assert scores.shape == (16, CLASSES)
    maps = nn.functional.adaptive_avg_pool2d(rule.head.reduce(
        nn.functional.adaptive_avg_pool2d(rule.block.body(x), 3)), 2)  # fmt: skip
    assert torch.equal(scores, rule.head.linear(rule.head.mlp(maps.flatten(1))))


@pytest.mark.parametrize(("depth", "norm"), [(1, False), (2, True), (3, False)])
def test_private_layers_are_of_the_next_blocks_kind_and_trained(depth, norm):
    rule = unfreeze(transformer_rule(0, num_layers=2, depth=depth, norm=norm))
    names = [type(m).__name__ for layer in rule.head.layers for m in layer]
    assert names == ["DecoderLayer"] * depth  # the block above has two: the third is like its first
    weights = [layer[0].widen.weight for layer in rule.head.layers]
    own = build_block(hidden_blocks(2)[0][1], 0, 1)
    assert not any(torch.equal(w, layer.widen.weight) for w in weights for layer in own.body)
    assert len({w.sum().item() for w in weights}) == depth
    x, y = tokens()
    loss = rule.spec.task.loss(rule.head(rule.block(x)), y)
    expected = torch.autograd.grad(loss, list(rule.parameters()))
    assert torch.equal(rule.learn(rule(x, y)[1], ()).loss, loss.detach())
    assert all(map(torch.equal, gradients(rule), expected))


def test_below_the_read_out_the_layers_are_those_in_front_of_it():
    rule = transformer_rule(1, depth=2)
    assert [[type(m).__name__ for m in layer] for layer in rule.head.layers] == [["DecoderLayer", "RMSNorm"]] * 2
    spec = BlockSpec(0, 2, (6,), (8,), (8,), Classification(CLASSES), 0,
                     Blueprint(partial(read_out, (8,)), "linear"))  # fmt: skip
    rule = with_options(depth=2)(dense(6, 8), spec)
    assert len(rule.head.layers) == 0 and rule.head.linear.in_features == 8


class Top(nn.Module):
    """A last block in one module, whose layers nobody sees from outside."""

    def __init__(self, *layers):
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x):
        return self.inner(x)


def top(chained, *layers):
    return Block(nn.Sequential(nn.Flatten(), Top(*layers)) if chained else Top(*layers))


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("make", [build, interlock.build], ids=["aux", "interlock"])
def test_a_last_block_of_one_module_that_is_more_than_a_read_out_is_refused(make, chained):
    """Its layers would be left out without a word."""
    def rule_of(*layers):
        above = Blueprint(partial(top, chained, *layers), "top")
        return make(dense(6, 8), BlockSpec(0, 2, (6,), (8,), (8,), Classification(CLASSES), 0, above),
                    read_out=ReadOut(depth=2))  # fmt: skip

    text = r"cannot be told from it \(given: rule.depth = 2 with a last block of one module, Top, expected: "
    with pytest.raises(ValueError, match=text):
        rule_of(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    assert len(rule_of(nn.LayerNorm(8), nn.Linear(8, CLASSES)).head.layers) == 0


@pytest.mark.parametrize("options", [{"head": "mlp"}, {"depth": 2}, {"norm": True}, {"head": "mlp", "depth": 1}])
def test_what_is_read_at_a_position_depends_on_no_later_one(options):
    rule = unfreeze(transformer_rule(1, **options))
    x = torch.randn(4, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[:, 3:] += 1.0
    one, other = (rule.decode(rule(z, tokens()[1])[1]) for z in (x, changed))
    assert torch.equal(one[:, :3], other[:, :3]) and not torch.equal(one[:, 3:], other[:, 3:])


def test_the_last_block_is_preds():
    first, last = (make_rules(make, [dense(4, 6), read_out((6,))], (4,))[1] for make in (build, pred.build))
    assert type(first) is type(last) and not first.block.body[1].weight.any()


def test_norms_are_of_full_precision_under_autocast():
    """Torch warns of a gain in float32 beside what is in bfloat16, and warnings are errors here."""
    x = torch.randn(3, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert FullNorm(8)(x).dtype is torch.float32
        rule = transformer_rule(1, head="mlp", norm=True)
        assert rule.decode(rule(torch.randn(4, LENGTH, WIDTH), tokens()[1])[1]).isfinite().all()


def test_read_outs_start_at_zero_whatever_stands_in_front_of_them():
    for options in ({}, {"head": "mlp"}, {"norm": True}):
        assert not make_rule(with_options(**options), dense(6, 8), (6,)).head.linear.weight.any()


WRONG = {
    "no maps": (lambda: make_rule(with_options(head="mlp_sr"), dense(6, 8), (6,)),
                r'a reduced map needs a map \(given: rule.head = "mlp_sr" with features of shape \(8,\)'),
    "no recipe": (lambda: transformer_rule(0, above=False, depth=1), r"handed over as an object, expected: a named"),
    "no positions": (lambda: with_options(head="mlp")(dense(6, 8), BlockSpec(
        0, 2, (6,), (8,), (8,), PositionClasses(4, (3,)))), r"an auxiliary head reads features at each position"),
    "another shape": (lambda: with_options(depth=2)(dense(6, 8), BlockSpec(
        0, 3, (6,), (8,), (8,), Classification(CLASSES), 0, Blueprint(partial(dense, 8, 5), "d"))),
        r"layers of block 1 cannot follow each other so often \(given: rule.depth = 2; RuntimeError: .*Lower"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read(name):
    make, text = WRONG[name]
    with pytest.raises((ValueError, ConfigError), match=text):
        make()


def test_a_head_behind_the_outlet_reads_what_is_sent():
    rule = unfreeze(make_rule(with_options(norm=True), Block(conv(2, 5).body, nn.MaxPool2d(2)), (2, 6, 6)))
    assert isinstance(rule.head, AuxHead) and rule.head.linear.in_features == 5 * 3 * 3
    x, y = batch((2, 6, 6))
    out, context = rule(x, y)
    assert torch.equal(context[0], out) and not out.requires_grad and context[0].requires_grad
