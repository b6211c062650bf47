"""The digits of scikit-learn and their one split."""

import torch

from pipeline.data.augment import Augment
from pipeline.datasets.digits import build


def test_the_split_keeps_the_share_of_every_class(tmp_path):
    data = build(tmp_path)
    train, test = data.load()
    assert train.x.shape == (1437, 1, 8, 8) and test.x.shape == (360, 1, 8, 8)
    every = torch.bincount(train.y) + torch.bincount(test.y)
    assert (torch.bincount(test.y) - every * 360 / 1797).abs().max() < 1


def test_pixels_are_scaled_to_one(tmp_path):
    train, _ = build(tmp_path).load()
    assert train.x.dtype == torch.float32
    assert train.x.min() == 0 and train.x.max() == 1
    assert torch.equal(train.x * 16, (train.x * 16).round())


def test_no_image_is_in_both_splits_and_the_split_is_fixed(tmp_path):
    train, test = build(tmp_path).load()
    again, _ = build(tmp_path).load()
    assert torch.equal(train.x, again.x)
    # Another split would change every figure that was published for this one.
    assert test.y[:8].tolist() == [7, 6, 3, 7, 7, 3, 2, 8]
    assert (train.x[:, None] == test.x[None]).flatten(2).all(2).sum() == 0


def test_options_reach_the_augmentation(tmp_path):
    data = build(tmp_path, augment=Augment(1, True, 2))
    assert data.augment == Augment(1, True, 2) and data.spec.is_augmented
