"""Damaged data files: cut, flipped, grown, emptied, replaced by a folder or a pipe. Each data set loads, or is refused
in one line, and nothing waits for ever."""

import os
import pickle
import shutil
import signal
import struct
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import Config
from pipeline.datasets import _cifar, svhn
from pipeline.errors import ConfigError
from pipeline.resolve import load_dataset

USUAL, FULL = 12, 140  # of each of five kinds
NUM = 8
RANDOM = np.random.default_rng(0)


def idx(folder):
    folder = folder / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split in ("train", "t10k"):
        pixels, labels = RANDOM.integers(0, 256, (NUM, 6, 6), "uint8"), RANDOM.integers(0, 10, NUM).astype("uint8")
        header = bytes((0, 0, 8, 3)) + struct.pack(">3I", NUM, 6, 6)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = bytes((0, 0, 8, 1)) + struct.pack(">I", NUM)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return {"name": "mnist", "download": False}


def stl10(folder):
    folder = folder / "stl10_binary"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(bytes(2 * 3 * 96 * 96))
        (folder / f"{split}_y.bin").write_bytes(bytes((1, 10)))
    return {"name": "stl10", "download": False}


def mat(folder):
    from scipy.io import savemat

    for split in ("train", "test"):
        pixels = RANDOM.integers(0, 256, (32, 32, 3, NUM), "uint8")
        savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, NUM + 1)[:, None]})
    return {"name": "svhn", "download": False}


def pickles(folder):
    folder = folder / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {"data": RANDOM.integers(0, 256, (NUM, 3072), "uint8"), "labels": [i % 10 for i in range(NUM)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return {"name": "cifar10", "download": False, "source": "original"}


def pictures(folder):
    for split in ("train", "test"):
        for label, suffix in enumerate(("png", "jpg", "bmp")):
            inner = folder / "pictures" / split / str(label)
            inner.mkdir(parents=True)
            Image.fromarray(RANDOM.integers(0, 256, (9, 8, 3), "uint8")).save(inner / f"a.{suffix}")
    return {"name": "image_folder", "path": "pictures", "image_size": 8}


KINDS = [idx, stl10, mat, pickles, pictures]


def cut(path, at, value):
    path.write_bytes(path.read_bytes()[: int(at * path.stat().st_size)])


def flip(path, at, value):
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1 + value
    path.write_bytes(data)


def flip_header(path, at, value):
    flip(path, at * min(1.0, 48 / path.stat().st_size), value)


def grow(path, at, value):
    path.write_bytes(path.read_bytes() + bytes((value,)) * (1 + int(at * 5000)))


def folder_instead(path, at, value):
    path.unlink()
    path.mkdir()


def pipe_instead(path, at, value):
    path.unlink()
    os.mkfifo(path)


def remove(path, at, value):
    path.unlink()


def unreadable_link(path, at, value):
    path.unlink()
    path.symlink_to(path.name)  # to itself


DAMAGES = [cut, flip, flip, flip_header, flip_header, grow, folder_instead, pipe_instead, remove, unreadable_link]


@contextmanager
def no_wait(seconds):
    """A reader that waits for ever is an error, not a test that never ends."""

    def too_long(*_):
        raise AssertionError(f"it took {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def few_images(monkeypatch):
    """The sizes that these data sets know by heart."""
    monkeypatch.setattr(svhn, "_NUM_IMAGES", {"train": NUM, "test": NUM})
    from pipeline.datasets import cifar10

    layout = _cifar.Layout(**{**vars(cifar10._LAYOUT), "num_train": 5 * NUM, "num_test": NUM})
    monkeypatch.setattr(cifar10, "_LAYOUT", layout)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("make", KINDS)
def test_a_damaged_data_set_loads_or_is_refused_in_one_line(request, few_images, tmp_path, make):
    options = make(tmp_path)
    config = Config.from_dict({"dataset": options})
    load_dataset(config, tmp_path).load()  # whole, it loads
    for cache in tmp_path.glob("*.cache"):
        shutil.rmtree(cache)
    whole = tmp_path.with_name(f"{tmp_path.name}-whole")
    shutil.copytree(tmp_path, whole)
    names = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    refused = []

    @settings(
        max_examples=FULL if request.config.getoption("--full") else USUAL, derandomize=True, deadline=None,
        database=None, suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(names), st.sampled_from(DAMAGES), st.floats(0, 1), st.integers(0, 254))
    def check(name, damage, at, value):
        shutil.rmtree(tmp_path)
        shutil.copytree(whole, tmp_path)
        damage(tmp_path / name, at, value)
        with no_wait(20.0):
            try:
                load_dataset(config, tmp_path).load()
            except ConfigError as error:
                refused.append(error)
                assert "\n" not in str(error) and len(str(error)) < 1500

    check()
    assert refused  # a whole data set would pass


def test_a_damaged_cache_of_pixels_is_made_again(tmp_path):
    config = Config.from_dict({"dataset": pictures(tmp_path)})
    before, _ = load_dataset(config, tmp_path).load()
    (cache,) = tmp_path.glob("*.cache/*.npz")
    whole = cache.read_bytes()
    for damage in DAMAGES:
        for at in (0.0, 0.3, 0.99):
            remove(cache, 0, 0) if cache.is_file() or cache.is_symlink() or cache.is_fifo() else cache.rmdir()
            cache.write_bytes(whole)
            damage(cache, at, 77)
            with no_wait(20.0):
                after, _ = load_dataset(config, tmp_path).load()
            assert after.x.equal(before.x)
