import pytest
import torch

from pipeline.config import Config
from pipeline.data.held_out import HeldOut, held_out_rows
from pipeline.data.task import Labels
from pipeline.dataset_of import load_dataset
from pipeline.datasets import noise, sine, text
from pipeline.errors import ConfigError


def made(tmp_path, share=0.3, seed=0, **options):
    whole = noise.build(tmp_path, shape=(3,), num_train=50, num_classes=3, **options)
    return whole, HeldOut(whole, share, seed, "noise")


def test_two_parts_of_the_training_samples(tmp_path):
    whole, data = made(tmp_path)
    train, validation, test = data.load_all()
    assert (data.spec.num_train, data.spec.num_validation, data.spec.num_test) == (35, 15, 64)
    assert (len(train.y), len(validation.y)) == (35, 15)
    together = torch.cat([train.x, validation.x])
    before = whole.load()[0].x
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, before.tolist()))
    assert torch.equal(test.x, whole.load()[1].x) and torch.equal(data.load()[0].x, train.x)


def test_a_function_of_the_seed(tmp_path):
    first, again, other = (made(tmp_path, seed=seed)[1].load_all().validation.x for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("count", [1, 7, 10, 99])
def test_classes_keep_their_shares(count):
    labels = torch.tensor([0] * 50 + [2] * 30 + [3] * 20)[torch.randperm(100)]
    rows = held_out_rows(labels, count, 5)
    assert len(set(rows.tolist())) == count
    found = torch.bincount(labels[rows], minlength=4)
    assert (found - torch.tensor([0.5, 0, 0.3, 0.2]) * count).abs().max() < 1


def test_numbers_have_no_classes(tmp_path):
    whole = sine.build(tmp_path, length=5, num_train=20, num_test=4)
    assert whole.spec.task.labels is Labels.NUMBERS
    train, validation, _ = HeldOut(whole, 0.25, 0, "sine").load_all()
    assert (train.x.shape, validation.y.shape) == ((15, 5, 1), (5, 5, 1))


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_nothing_left(tmp_path, share):
    with pytest.raises(ConfigError, match=rf"nothing would be left \(given: dataset\.validation = {share} of 50 train"):
        made(tmp_path, share)


def test_no_sample_of_a_stream_can_be_held_out(tmp_path):
    with pytest.raises(ConfigError, match=r"no sample can be held out of a stream \(given: dataset\.validation = 0\.1"):
        HeldOut(text.build(tmp_path), 0.1, 0, "text")


def test_one_validation_set_is_enough(tmp_path):
    with pytest.raises(ConfigError, match=r"there is a validation set already .* 15 samples for validation"):
        HeldOut(made(tmp_path)[1], 0.1, 0, "noise")


@pytest.mark.parametrize(("given", "message"), [
    (1.0, r"wrong value for dataset\.validation \(given: 1\.0, expected: .*below 1"),
    (-0.1, r"wrong value for dataset\.validation"), ("many", r"wrong value for dataset\.validation"),
    (float("nan"), r"wrong value for dataset\.validation"),
])  # fmt: skip
def test_wrong_shares(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset(Config.from_dict({"dataset": {"name": "noise", "validation": given}}), tmp_path)


def test_every_data_set_has_the_option(tmp_path):
    config = Config.from_dict({"dataset": {"name": "digits", "validation": 0.1}})
    spec = load_dataset(config, tmp_path).spec
    assert (spec.num_train, spec.num_validation) == (1437 - 144, 144)
    assert load_dataset(config.overridden(["dataset.name=noise"]), tmp_path).spec.num_validation == 102
