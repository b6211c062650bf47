"""Pictures are decoded once, and again when one has changed."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.datasets import _pixels
from pipeline.datasets._pixels import load_pixels
from pipeline.errors import ConfigError


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of noise, 4x4, in two splits."""
    folder = tmp_path / "set"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    paths = [folder / f"{i}.png" for i in range(3)]
    for path, pixels in zip(paths, noise):
        Image.fromarray(pixels).save(path)
    return folder, [paths[:2], paths[2:]], torch.from_numpy(noise).permute(0, 3, 1, 2)


@pytest.fixture
def decoded(monkeypatch):
    """Counts the splits that are decoded."""
    calls = []
    decode = _pixels._decode
    monkeypatch.setattr(_pixels, "_decode", lambda *args: calls.append(1) or decode(*args))
    return calls


def check(pictures, size=4, channels=3):
    folder, splits, expected = pictures
    first, second = load_pixels(folder, splits, size, channels)
    assert torch.equal(first, expected[:2]) and torch.equal(second, expected[2:])


def test_pixels_come_from_the_cache_the_second_time(pictures, decoded):
    check(pictures)
    assert len(decoded) == 2
    check(pictures)
    assert len(decoded) == 2
    assert [path.name for path in (pictures[0].parent / "set.cache").iterdir()] == ["4x4x3.npz"]


def test_another_size_has_a_cache_of_its_own(pictures, decoded):
    folder, splits, _ = pictures
    check(pictures)
    assert load_pixels(folder, splits, 2, 1)[0].shape == (2, 1, 2, 2)
    check(pictures)
    assert len(decoded) == 4


def test_a_file_that_changed_is_decoded_again(pictures, decoded):
    folder, splits, expected = pictures
    check(pictures)
    Image.fromarray(255 - expected[0].permute(1, 2, 0).numpy()).save(splits[0][0])
    os.utime(splits[0][0], ns=(1, 1))
    assert torch.equal(load_pixels(folder, splits, 4, 3)[0][0], 255 - expected[0])
    assert len(decoded) == 4


def test_the_same_files_split_otherwise_are_decoded_again(pictures, decoded):
    folder, splits, expected = pictures
    check(pictures)
    first, second = load_pixels(folder, [splits[0][:1], splits[0][1:] + splits[1]], 4, 3)
    assert torch.equal(first, expected[:1]) and torch.equal(second, expected[1:])


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_cache_is_made_again(pictures, decoded, damage):
    check(pictures)
    cache = pictures[0].parent / "set.cache" / "4x4x3.npz"
    cache.write_bytes(cache.read_bytes()[:200] if damage is None else damage)
    check(pictures)
    check(pictures)
    assert len(decoded) == 4


def test_a_place_that_cannot_be_written_costs_time_only(pictures, decoded):
    (pictures[0].parent / "set.cache").write_text("a file where the folder should be")
    check(pictures)
    check(pictures)
    assert len(decoded) == 4


def test_a_full_disk_leaves_no_half_cache(pictures, decoded, monkeypatch):
    def full(file, *arrays, key):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_pixels.np, "savez", full)
    check(pictures)
    assert list((pictures[0].parent / "set.cache").iterdir()) == []


def test_the_longer_side_is_cut_about_the_centre(tmp_path):
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    (wide,) = load_pixels(tmp_path, [[tmp_path / "wide.png"]], 4, 3)
    assert torch.equal(wide, torch.full((1, 3, 4, 4), 200, dtype=torch.uint8))


def test_grey_and_colour_are_converted(tmp_path):
    Image.new("L", (2, 2), 90).save(tmp_path / "grey.png")
    Image.new("RGB", (2, 2), (90, 90, 90)).save(tmp_path / "colour.png")
    files = [[tmp_path / "grey.png", tmp_path / "colour.png"]]
    for channels in (1, 3):
        (pixels,) = load_pixels(tmp_path, files, 2, channels)
        assert torch.equal(pixels, torch.full((2, channels, 2, 2), 90, dtype=torch.uint8))


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_file_that_is_no_picture_is_named(pictures, content):
    folder, splits, _ = pictures
    splits[1][0].write_bytes(content)
    with pytest.raises(ConfigError, match=f"cannot read the picture {splits[1][0]} .* Replace or remove it"):
        load_pixels(folder, splits, 4, 3)


def test_a_picture_that_was_cut_short_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with pytest.raises(ConfigError, match="cannot read the picture .*a.jpg"):
        load_pixels(tmp_path, [[tmp_path / "a.jpg"]], 8, 3)


def test_a_picture_is_turned_as_its_camera_was(tmp_path):
    """As ``--predict`` turns it."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    (found,) = load_pixels(tmp_path, [[tmp_path / "turned.png"]], 4, 3)
    assert torch.equal(found[0], torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1))


def test_a_cache_that_was_made_otherwise_is_made_again(pictures, decoded, monkeypatch):
    check(pictures)
    monkeypatch.setattr(_pixels, "_MADE_BY", b"another")
    check(pictures)
    assert len(decoded) == 4


@pytest.mark.parametrize(("mode", "colour", "given"), [
    ("RGBA", (9, 9, 9, 254), "transparent pixels"), ("I;16", 900, "more than 8 bits a pixel, mode I;16"),
])  # fmt: skip
def test_a_picture_that_would_lose_something_is_refused(tmp_path, mode, colour, given):
    Image.new(mode, (4, 4), colour).save(tmp_path / "a.png")
    text = rf"a picture is not clear \(given: .*a.png, {given}; expected: opaque, 8 bits a channel\)\. Convert or"
    with pytest.raises(ConfigError, match=text):
        load_pixels(tmp_path, [[tmp_path / "a.png"]], 4, 3)


def test_an_opaque_alpha_is_left_out_and_a_palette_is_looked_up(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.convert("RGBA").save(tmp_path / "a.png")
    image.quantize(256).save(tmp_path / "b.png")
    (found,) = load_pixels(tmp_path, [[tmp_path / "a.png", tmp_path / "b.png"]], 4, 3)
    assert torch.equal(found[0], torch.from_numpy(pixels).permute(2, 0, 1))
    assert (found[1].int() - found[0].int()).abs().max() < 40
