"""The workloads: what they resolve to, and how much arithmetic that is."""

import pytest

from benchmarks import presets
from benchmarks.presets import PRESETS, Preset, Product
from pipeline.config import Config, NamedConfig
from pipeline.resolve import resolve

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
    assert sum(presets.forward_flop(found)) == forward
    # rules.md 2.2: hidden blocks decode with a matrix of 10 rows; the output block has no decoder.
    assert presets.local_flop(found) == 2 * forward + 8 * 6 * 1024 * 10
    assert presets.backprop_flop(found) == 3 * forward - linear(784, 1024)
    assert presets.main_product(found, 128) == Product(128, 1024, 1024)


def test_dfa_has_one_product_for_a_decoder_s_three_and_the_baselines_are_backprop(tmp_path):
    found = resolved("dfa-8x1024", tmp_path)
    assert found.batching.in_flight == 4
    assert presets.local_flop(found) == 2 * sum(presets.forward_flop(found)) + 8 * 2 * 1024 * 10
    baseline = PRESETS["dfa-8x1024"].config(precision="highest", mode="gpipe")
    assert (baseline.rule.name, baseline.train.in_flight) == ("backprop", 1)


def test_the_multiplications_of_convolutions(tmp_path):
    found = resolved("vgg8b-quarter", tmp_path)
    # (channels in, channels out, edge of the map): 3x3 kernels, padded; pooling comes after them.
    convs = [(3, 32, 32), (32, 64, 32), (64, 64, 16), (64, 128, 16), (128, 128, 8), (128, 128, 4)]
    expected = [2 * 9 * a * b * edge**2 for a, b, edge in convs] + [linear(128 * 2 * 2, 1024), linear(1024, 10)]
    assert presets.forward_flop(found) == expected
    heads = sum(6 * 10 * b * edge**2 for _, b, edge in convs) + 6 * 10 * 1024
    assert presets.local_flop(found) == 2 * sum(expected) + heads
    largest = presets.main_product(found, 64)
    assert largest.flop == 64 * max(expected)
    assert largest == Product(64 * 32 * 32, 9 * 32, 64)


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
