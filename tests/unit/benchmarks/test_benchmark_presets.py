"""The workloads: what they resolve to, and how much arithmetic that is."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import presets
from benchmarks.arms.work import UsersOptimizer
from benchmarks.presets import PRESETS, Preset, Product
from pipeline.config import Config, NamedConfig
from pipeline.engine.stepper import Stepper
from pipeline.network.block import build_block
from pipeline.resolve import build_rule, resolve
from pipeline.rules.backprop import Backprop
from pipeline.schedules.plan import BlockMode, Plan

BLOCKS = {"mlp-8x1024": 9, "mlp-8x1024-highest": 9, "mlp-8x128": 9, "vgg8b-quarter": 8, "vgg8b": 8, "deep-thin": 33}


def resolved(name, tmp_path):
    return resolve(PRESETS[name].on("cpu").config(precision="highest"), tmp_path)


def linear(*widths):
    return sum(2 * a * b for a, b in zip(widths, widths[1:], strict=False))


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_a_preset_is_as_deep_as_it_says_and_has_whole_batches(name, tmp_path):
    found = resolved(name, tmp_path)
    assert found.num_blocks == BLOCKS[name]
    assert found.batching.num_steps == PRESETS[name].steps_per_epoch
    assert found.batching.num_train == found.batching.num_steps * found.batching.batch_size
    assert (found.config.optimizer.name, found.config.rule.name) == ("adam", "linear_decoder")
    assert found.config.optimizer.options["lr"] == 1e-3


def test_the_multiplications_of_an_mlp(tmp_path):
    found = resolved("mlp-8x1024", tmp_path)
    forward = linear(784, *[1024] * 8, 10)
    # Hidden blocks decode with a matrix of 10 rows; the output block has no decoder.
    assert presets.local_flop(found) == 2 * forward + 8 * 6 * 1024 * 10
    assert presets.backprop_flop(found) == 3 * forward - linear(784, 1024)
    assert presets.main_product(found, 128) == Product(128, 1024, 1024)


def test_dfa_has_one_product_for_a_decoder_s_three_and_the_baselines_are_backprop(tmp_path):
    found = resolved("dfa-8x1024", tmp_path)
    assert found.batching.in_flight == 4
    assert presets.local_flop(found) == 2 * linear(784, *[1024] * 8, 10) + 8 * 2 * 1024 * 10
    baseline = PRESETS["dfa-8x1024"].config(precision="highest", mode="gpipe")
    assert (baseline.rule.name, baseline.train.in_flight) == ("backprop", 1)


def test_the_multiplications_of_synthetic_gradients_are_those_of_the_rule_itself(tmp_path):
    """Counted by torch while a rule of each block learns once, and what is left out: nothing but element by element."""
    found = resolved("dni-6x256", tmp_path)
    forward = linear(784, *[256] * 5, 10)
    model = 3 * linear(266, 256) + 4 * linear(256, 256, 256)
    assert presets.local_flop(found) == 3 * forward - linear(784, 256) + 5 * model
    x, y = torch.randn(4, 784), torch.tensor([0, 1, 2, 3])
    with FlopCounterMode(display=False) as counter:
        contexts, messages = [], []
        rules = [build_rule(found.config, b, s) for b, s in zip(found.blueprints, found.specs, strict=True)]
        for rule in rules:
            x, context = rule.forward(x, y)
            contexts.append(context)
        for rule, context in zip(rules, contexts, strict=True):
            messages.append(rule.learn(context, ()).upstream)
        for k, (rule, context) in enumerate(zip(rules[:-1], contexts, strict=False)):
            rule.learn(context, messages[k + 1])
    assert counter.get_total_flops() == 4 * presets.local_flop(found)


def test_the_multiplications_of_convolutions(tmp_path):
    found = resolved("vgg8b-quarter", tmp_path)
    # (channels in, channels out, edge of the map): 3x3 kernels, padded; pooling comes after them.
    convs = [(3, 32, 32), (32, 64, 32), (64, 64, 16), (64, 128, 16), (128, 128, 8), (128, 128, 4)]
    expected = [2 * 9 * a * b * edge**2 for a, b, edge in convs] + [linear(128 * 2 * 2, 1024), linear(1024, 10)]
    assert [sum(p.flop for p in products) for products in presets._all_products(found)] == expected
    heads = sum(6 * 10 * b * edge**2 for _, b, edge in convs) + 6 * 10 * 1024
    assert presets.local_flop(found) == 2 * sum(expected) + heads
    largest = presets.main_product(found, 64)
    assert largest.flop == 64 * max(expected)
    assert largest == Product(64 * 32 * 32, 9 * 32, 64)


@pytest.mark.parametrize(("name", "per_block"), [("lm-s", 1), ("lm-s-4", 2), ("lm-s-2", 4)])
def test_the_multiplications_of_a_language_model(name, per_block, tmp_path):
    """At each of 128 positions forward: attention takes 4 w^2, and w for every key and every value, the net 8 w^2, the
    read-out w times 256; three times as much in all, but for the input of a block behind a block, which is read by
    three w^2. Every block has a read-out."""
    found, num_blocks = resolved(name, tmp_path), 8 // per_block
    layer, read_out, spared = linear(128, 12 * 128) + 2 * linear(128, 128), linear(128, 256), linear(128, 3 * 128)
    backprop = 128 * 3 * (8 * layer + read_out)
    assert presets.backprop_flop(found) == backprop
    assert presets.local_flop(found) == backprop + 128 * (num_blocks - 1) * (3 * read_out - spared)
    assert (found.optimizer.clip, found.optimizer.decay_on, found.optimizer.name) == (1.0, "matrices", "adamw")
    assert found.num_blocks == num_blocks and found.batching.num_steps == PRESETS[name].steps_per_epoch


@pytest.mark.parametrize("name", ["lm-s", "deep-thin"])
def test_a_users_optimizer_steps_as_a_stage_does(name, tmp_path):
    found = resolved(name, tmp_path)
    blueprints = list(enumerate(found.blueprints[:3]))
    nets = [nn.Sequential(*(build_block(b, 0, k) for k, b in blueprints)) for _ in range(2)]
    rules = {k: Backprop(block, found.specs[k]) for k, block in enumerate(nets[1])}
    stepper = Stepper(rules, found.optimizer, found.lr)
    stepper.begin(Plan(0, (BlockMode.TRAIN,) * 3, (0,) * 3), range(3))
    users = UsersOptimizer(found, nets[0])
    for step in range(3):
        for mine, theirs in zip(*(net.parameters() for net in nets), strict=True):
            mine.grad = torch.randn(mine.shape, generator=torch.Generator().manual_seed(step))
            theirs.grad = mine.grad.clone()
        users.step()
        users.zero_grad()
        stepper.step(step)
    for mine, theirs in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
        assert mine.grad is None


def test_a_config_is_one_that_a_file_could_hold():
    config = PRESETS["vgg8b"].config(
        precision="medium", partition=(3, 5), epochs=4, mode="1f1b", microbatches=8, wire="int8"
    )  # fmt: skip
    assert Config.from_dict(config.to_dict()) == config and config.transport.wire == "int8"
    assert config.run.partition == [3, 5] and config.run.stages == 2 and config.run.device == "cuda"
    assert config.train.epochs == 4 and config.train.microbatches == 8 and config.schedule.mode == "1f1b"
    assert PRESETS["vgg8b"].on("cpu").device == "cpu" and PRESETS["vgg8b"].on(None) is PRESETS["vgg8b"]


def test_a_preset_with_a_rest_is_refused():
    with pytest.raises(ValueError, match="every step has a full batch .*Make num_samples a multiple of batch_size"):
        Preset(name="odd", model=NamedConfig(name="mlp"), sample_shape=(4,), batch_size=3, num_samples=10)
