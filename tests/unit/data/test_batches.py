"""Batches are a pure function of (seed, epoch, index)."""

import pytest
import torch

from pipeline.data import batches as module
from pipeline.data.augment import Augment
from pipeline.data.batches import Batches, epoch_order
from pipeline.data.dataset import ArrayDataset, DataSpec, Normalisation, Split
from pipeline.data.task import Classification
from pipeline.errors import ConfigError

ALL = Augment(crop_padding=2, flip=True, cutout=3)


def images(count=23, channels=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (count, channels, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(x, torch.arange(count))


def dataset(augment=Augment(), normalisation=None):
    spec = DataSpec((3, 8, 8), Classification(23), 23, 23)
    return ArrayDataset("toy", spec, lambda: (images(), images()), augment=augment, normalisation=normalisation)


def batches(split=None, augment=Augment(), normalisation=None, **options):
    data = dataset(augment, normalisation)
    options = {"seed": 0, "train": True, "batch_size": 5, "device": "cpu"} | options
    return Batches(images() if split is None else split, dataset=data, **options)


def test_an_epoch_visits_every_sample_once_and_keeps_the_last_small_batch():
    cut = batches()
    assert (cut.num_samples, cut.num_batches) == (23, 5)
    labels = [cut.batch(2, index)[1] for index in range(5)]
    assert [len(y) for y in labels] == [5, 5, 5, 5, 3]
    assert torch.equal(torch.cat(labels), cut.order(2))
    assert torch.cat(labels).sort().values.tolist() == list(range(23))


def test_the_order_depends_on_seed_and_epoch_alone():
    assert torch.equal(batches(seed=4).order(7), epoch_order(4, 7, 23))
    assert not torch.equal(epoch_order(4, 7, 23), epoch_order(4, 8, 23))
    assert not torch.equal(epoch_order(4, 7, 23), epoch_order(5, 7, 23))


def test_inputs_belong_to_their_labels_and_are_scaled():
    x, y = batches().batch(0, 3)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, images().x[y].float() / 255)


def test_pixels_are_normalised_per_channel():
    mean, std = (0.4, 0.5, 0.1), (0.2, 0.3, 0.25)
    x, y = batches(normalisation=Normalisation(mean, std)).batch(0, 0)
    expected = (images().x[y] / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(x, expected, atol=1e-6, rtol=1e-6)


def test_features_are_left_as_they_are():
    split = Split(torch.randn(23, 4), torch.arange(23))
    x, y = batches(split).batch(0, 1)
    assert torch.equal(x, split.x[y])


def test_evaluation_keeps_the_order_and_augments_nothing():
    cut = batches(augment=ALL, train=False)
    x, y = cut.batch(9, 4)
    assert y.tolist() == [20, 21, 22]
    assert torch.equal(cut.order(9), torch.arange(23))
    torch.testing.assert_close(x, images().x[20:].float() / 255)


def test_a_batch_is_the_same_whatever_was_asked_before():
    walked = batches(augment=ALL)
    for epoch in range(2):
        for index in range(5):
            walked.batch(epoch, index)
    for epoch, index in ((1, 3), (0, 4), (0, 0)):
        expected, labels = batches(augment=ALL).batch(epoch, index)
        again, labels_again = walked.batch(epoch, index)
        assert torch.equal(again, expected) and torch.equal(labels_again, labels)


def test_augmentation_differs_between_seeds_epochs_and_indices():
    split = Split(images(1).x.expand(20, 3, 8, 8), torch.zeros(20, dtype=torch.int64))
    first = batches(split, augment=ALL).batch(0, 0)[0]
    others = [batches(split, augment=ALL, seed=s).batch(e, i)[0] for s, e, i in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert not any(torch.equal(first, other) for other in others)


def test_padding_is_black_and_cutout_is_the_mean():
    white = Split(torch.full((20, 3, 8, 8), 255, dtype=torch.uint8), torch.zeros(20, dtype=torch.int64))
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    cropped = torch.cat([batches(white, Augment(crop_padding=2), normalisation).batch(0, i)[0] for i in range(4)])
    assert cropped.unique().tolist() == [-2.0, 2.0]
    cut = torch.cat([batches(white, Augment(cutout=3), normalisation).batch(0, i)[0] for i in range(4)])
    assert cut.unique().tolist() == [0.0, 2.0]
    assert (cut == 0).sum((1, 2, 3)).max() == 3 * 9  # one square of 3x3 in three channels


def test_a_batch_may_be_written_to():
    split = Split(torch.randn(23, 4), torch.arange(23))
    cut = batches(split, train=False)
    before = split.x.clone()
    cut.batch(0, 0)[0].zero_()
    assert torch.equal(split.x, before)


def test_samples_on_the_device_already_are_not_copied():
    split = images()
    assert batches(split)._x.data_ptr() == split.x.data_ptr()


def test_a_device_takes_the_samples_up_to_its_share(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    gpu = torch.device("cuda", 0)
    assert module._fits(torch.zeros(600, dtype=torch.uint8), gpu, 0.6)
    assert not module._fits(torch.zeros(601, dtype=torch.uint8), gpu, 0.6)
    assert module._fits(torch.zeros(601, dtype=torch.uint8), torch.device("cpu"), 0.6)


def test_a_batch_size_of_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"the batch size is out of range \(given: train.batch_size=0"):
        batches(batch_size=0)


def test_augmenting_points_is_refused():
    split = Split(torch.randn(23, 4), torch.arange(23))
    with pytest.raises(ConfigError, match=r"only images can be augmented \(given: samples of shape \(4,\)"):
        batches(split, augment=ALL)


@pytest.mark.parametrize("index", [-1, 5])
def test_a_batch_beyond_the_epoch_is_refused(index):
    with pytest.raises(IndexError, match=rf"no such batch \(given: {index}, expected: 0 to 4\)"):
        batches().batch(0, index)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("share", [0.6, 0.0])
def test_a_gpu_sees_the_batches_that_the_cpu_sees(share):
    normalisation = Normalisation((0.4, 0.5, 0.1), (0.2, 0.3, 0.25))
    gpu = batches(augment=ALL, normalisation=normalisation, device="cuda", resident_share=share)
    assert gpu._x.is_cuda == (share > 0)
    for index in range(5):
        x, y = gpu.batch(1, index)
        expected, labels = batches(augment=ALL, normalisation=normalisation).batch(1, index)
        torch.testing.assert_close(x.cpu(), expected, atol=1e-6, rtol=1e-6)
        assert x.is_cuda and torch.equal(y.cpu(), labels)
