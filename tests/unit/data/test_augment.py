"""Crop, flip and cutout against a plain loop over samples."""

import pytest
import torch

from pipeline.data.augment import Augment, crop, cutout, draw, flip
from pipeline.errors import ConfigError

CPU = torch.device("cpu")


def images(batch=5, channels=3, height=7, width=9, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (batch, channels, height, width), generator=generator).to(dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [1, 4])
def test_crop_is_a_window_of_the_padded_image(padding, dtype):
    x = images(dtype=dtype)
    top, left = torch.tensor([0, 1, 2, 2 * padding, 0]), torch.tensor([2, 0, 2 * padding, 2 * padding, 0])
    padded = torch.zeros(5, 3, 7 + 2 * padding, 9 + 2 * padding, dtype=dtype)
    padded[:, :, padding : padding + 7, padding : padding + 9] = x
    expected = [padded[i, :, t : t + 7, s : s + 9] for i, (t, s) in enumerate(zip(top.tolist(), left.tolist()))]
    assert torch.equal(crop(x, padding, top, left), torch.stack(expected))


def test_crop_at_the_centre_changes_nothing():
    x = images()
    middle = torch.full((5,), 3)
    assert torch.equal(crop(x, 3, middle, middle), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flip_mirrors_the_chosen_images_only(dtype):
    x = images(dtype=dtype)
    flipped = flip(x, torch.tensor([1, 0, 0, 1, 0]))
    for i, mirrored in enumerate([True, False, False, True, False]):
        expected = torch.tensor(x[i].numpy()[:, :, ::-1].copy()) if mirrored else x[i]
        assert torch.equal(flipped[i], expected)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_cutout_clears_one_square_clipped_at_the_borders(size):
    x = images(dtype=torch.float32)
    rows, columns = [0, 3, 6, 6, 1], [0, 4, 8, 0, 7]
    expected = x.clone()
    for image, row, column in zip(expected, rows, columns):
        top, left = row - size // 2, column - size // 2
        image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    assert torch.equal(cutout(x, size, torch.tensor(rows), torch.tensor(columns)), expected)


def test_draws_cover_their_ranges_and_nothing_else():
    chance = draw(Augment(crop_padding=2, flip=True, cutout=4), torch.Size((4000, 1, 5, 3)), generator(), CPU)
    for values, limit in zip(chance, (5, 5, 2, 5, 3)):
        counts = torch.bincount(values, minlength=limit)
        assert len(counts) == limit
        # Six standard deviations of a binomial count around its mean.
        mean = 4000 / limit
        assert (counts - mean).abs().max() < 6 * (mean * (1 - 1 / limit)) ** 0.5


def test_one_augmentation_does_not_move_the_choices_of_another():
    shape = torch.Size((64, 1, 28, 28))
    alone = draw(Augment(crop_padding=2), shape, generator(3), CPU)
    together = draw(Augment(crop_padding=2, flip=True, cutout=14), shape, generator(3), CPU)
    assert torch.equal(alone.top, together.top) and torch.equal(alone.left, together.left)


def test_identity_is_the_default():
    assert Augment().is_identity
    assert not Augment(flip=True).is_identity
    assert not Augment(cutout=2).is_identity


@pytest.mark.parametrize("name", ["crop_padding", "cutout"])
def test_negative_sizes_are_refused(name):
    with pytest.raises(ConfigError, match=rf"cannot be negative \(given: dataset.{name}=-1, expected: 0 or more\)"):
        Augment(**{name: -1})
