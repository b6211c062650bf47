"""Small blocks, rules and chains of rules for the tests of this folder."""

from math import prod

import torch
from torch import nn

from pipeline.data.task import Classification
from pipeline.learning.rule import BlockSpec, Topology
from pipeline.network.block import Block

CLASSES = 5


def dense(num_in, num_out, activation=nn.Tanh, norm=False):
    layers = [nn.Linear(num_in, num_out)]
    layers += [nn.BatchNorm1d(num_out)] if norm else []
    layers += [activation()] if activation else []
    return Block(nn.Sequential(*layers))


def conv(channels_in, channels_out, pool=False):
    body = nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU())
    return Block(body, nn.MaxPool2d(2) if pool else None)


def read_out(in_shape, num_outputs=CLASSES):
    return Block(nn.Sequential(nn.Flatten(), nn.Linear(prod(in_shape), num_outputs)))


def make_rules(build, blocks, in_shape, task=None, num_blocks=None, num_train=0, **options):
    """One rule per block, in float64; shapes are found by running the blocks."""
    rules = []
    for index, block in enumerate(blocks):
        with torch.no_grad():
            body = block.double().eval().body(torch.zeros(1, *in_shape, dtype=torch.float64))
            body_shape, out_shape = tuple(body.shape[1:]), tuple(block.outlet(body).shape[1:])
        block.train()
        place = index, num_blocks or len(blocks)
        spec = BlockSpec(*place, in_shape, body_shape, out_shape, task or Classification(CLASSES), num_train)
        rules.append(build(block, spec, **options).double())
        in_shape = out_shape
    return rules


def make_rule(build, block, in_shape, task=None, **options):
    """The rule of a hidden block: the first of two."""
    return make_rules(build, [block], in_shape, task, num_blocks=2, **options)[0]


def learn_chain(rules, x, y, weight=1.0):
    """One micro-batch up and back down, as a stage would do it; fills the gradients of all rules."""
    contexts = []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    top = rules[-1].learn(contexts[-1], (), weight=weight)
    message = top.upstream
    losses = [top.loss]
    for rule, context in zip(rules[-2::-1], contexts[-2::-1]):
        learned = rule.learn(context, message if rule.topology is not Topology.LOCAL else (), weight=weight)
        losses.append(learned.loss)
        if rule.topology is Topology.NEIGHBOUR:
            message = learned.upstream
    return losses[::-1]


def true_gradients(blocks, x, y, loss):
    """Gradients of all blocks' parameters by autograd through the whole network, block by block."""
    out = x
    for block in blocks:
        out = block(out)
    parameters = [list(block.parameters()) for block in blocks]
    found = iter(torch.autograd.grad(loss(out, y), [p for group in parameters for p in group]))
    return [[next(found) for _ in group] for group in parameters]


def gradients(module):
    return [p.grad for p in module.parameters()]


def assert_same(given, expected, rtol=1e-10):
    """Equal to ``rtol`` of the largest entry."""
    for a, b in zip(given, expected, strict=True):
        scale = b.abs().max().item()
        torch.testing.assert_close(a, b, rtol=0.0, atol=rtol * max(scale, 1e-30))


def batch(in_shape, size=16, num_classes=CLASSES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, *in_shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(num_classes, (size,), generator=generator)
