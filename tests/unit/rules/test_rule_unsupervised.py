"""A share of the local losses that needs no labels."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline import registry
from pipeline.config import Config
from pipeline.data.task import Classification
from pipeline.errors import ConfigError
from pipeline.learning.rule import BlockSpec
from pipeline.learning.similarity import similarity
from pipeline.network.block import Block
from pipeline.resolve import resolve

TASK = Classification(4)


def dense_block():
    return Block(nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Tanh()), nn.Dropout(0.5))


def conv_block(stride=1):
    body = nn.Sequential(nn.Conv2d(3, 5, 3, stride, 1), nn.BatchNorm2d(5), nn.LeakyReLU())
    return Block(body, nn.MaxPool2d(2))


def rule_of(name, block, in_shape, index=1, **options):
    x = torch.zeros(2, *in_shape)
    spec = BlockSpec(index, 3, in_shape, tuple(block.body(x).shape[1:]), tuple(block(x).shape[1:]), TASK)
    build = registry.load("pipeline.rules", name, "rule")
    torch.manual_seed(1)
    return build(block, spec, **registry.check_options(build, options, "rule"))


def learned(rule, x, y):
    _, context = rule(x, y)
    return rule, rule.learn(context, ()).loss


def supervised(rule, h, y):
    """Of the same heads, written out."""
    loss = torch.zeros(())
    if hasattr(rule, "head"):
        loss = TASK.loss(rule.head(h), y)
    if type(rule).__name__ != "Pred":
        matched = F.mse_loss(similarity(rule.project(h)), similarity(F.one_hot(y, 4).float()))
        loss = matched if type(rule).__name__ == "Sim" else torch.lerp(loss, matched, rule.beta)
    return loss


@pytest.mark.parametrize("name", ["pred", "sim", "predsim"])
@pytest.mark.parametrize("block", [dense_block, conv_block], ids=["dense", "conv"])
def test_similarities_of_the_input(name, block):
    in_shape = (12,) if block is dense_block else (3, 8, 8)
    x, y = torch.randn(7, *in_shape), torch.arange(7) % 4
    rule, loss = learned(rule_of(name, block(), in_shape, unsupervised="sim", alpha=0.25), x, y)
    h = rule.block.body(x)
    expected = 0.25 * F.mse_loss(similarity(rule.project(h)), similarity(x)) + 0.75 * supervised(rule, h, y)
    torch.testing.assert_close(loss, expected.detach())
    expected.backward(inputs=list(rule.block.parameters()))  # on top: twice the gradient
    doubled = [p.grad.clone() for p in rule.block.parameters()]
    rule.zero_grad()
    learned(rule, x, y)
    for twice, once in zip(doubled, rule.block.parameters(), strict=True):
        torch.testing.assert_close(twice, 2 * once.grad, rtol=1e-3, atol=1e-6)
    assert not rule.splits_batches


@pytest.mark.parametrize("stride", [1, 2])
def test_reconstruction_of_a_map(stride):
    x, y = torch.randn(5, 3, 7, 8), torch.arange(5) % 4
    rule, loss = learned(rule_of("pred", conv_block(stride), (3, 7, 8), unsupervised="recon", alpha=0.5), x, y)
    h = rule.block.body(x)
    guess = F.leaky_relu(rule.reconstruct(h))
    assert guess.shape == x.shape
    torch.testing.assert_close(loss, (0.5 * F.mse_loss(guess, x) + 0.5 * supervised(rule, h, y)).detach())
    assert rule.reconstruct.weight.grad.any() and rule.splits_batches


def test_reconstruction_of_a_flattened_map():
    x, y = torch.randn(5, 3, 2, 2), torch.arange(5) % 4
    rule, loss = learned(rule_of("predsim", dense_block(), (3, 2, 2), unsupervised="recon", alpha=0.5), x, y)
    h = rule.block.body(x)
    guess = torch.tanh(rule.reconstruct(h))  # the unit, without the norm before it
    torch.testing.assert_close(loss, (0.5 * F.mse_loss(guess, x.flatten(1)) + 0.5 * supervised(rule, h, y)).detach())


def test_the_first_block_reconstructs_nothing_and_keeps_its_share():
    x, y = torch.randn(5, 12), torch.arange(5) % 4
    rule, loss = learned(rule_of("pred", dense_block(), (12,), index=0, unsupervised="recon", alpha=0.4), x, y)
    torch.testing.assert_close(loss, (0.6 * supervised(rule, rule.block.body(x), y)).detach())
    assert not hasattr(rule, "reconstruct")


@pytest.mark.parametrize("name", ["pred", "sim", "predsim"])
def test_without_it_nothing_is_added(name):
    rule = rule_of(name, dense_block(), (12,))
    assert not any("reconstruct" in n for n in rule.state_dict())
    assert ("project.project.weight" in rule.state_dict()) == (name != "pred")


@pytest.mark.parametrize("options", [{"unsupervised": "sim"}, {"alpha": 0.5}])
def test_a_share_of_no_loss_is_refused(tmp_path, options):
    config = Config.from_dict({"rule": {"name": "pred", **options}})
    with pytest.raises(ConfigError, match="an unsupervised loss needs a share, and a share a loss"):
        resolve(config, tmp_path)


def test_maps_that_no_transposed_convolution_reaches():
    body = nn.Sequential(nn.Conv2d(3, 5, 4), nn.ReLU())
    with pytest.raises(ValueError, match=r"a map cannot be reconstructed from one of that size \(given: block 1 from"):
        rule_of("pred", Block(body), (3, 9, 9), unsupervised="recon", alpha=0.5)
