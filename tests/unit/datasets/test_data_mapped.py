import json
import mmap
import pickle
import re

import numpy as np
import pytest
import torch

from pipeline.data.batches import Batches
from pipeline.data.dataset import Split
from pipeline.data.held_out import HeldOut
from pipeline.data.mapped import MappedArray
from pipeline.data.windows import feed_of
from pipeline.datasets import mapped
from pipeline.errors import ConfigError

RNG = np.random.default_rng(0)


def save(folder, **changed):
    """Forty training and nine test samples, with some arrays changed; None leaves one out."""
    folder.mkdir(exist_ok=True)
    arrays = {
        "x_train": RNG.normal(size=(40, 3)).astype(np.float32), "y_train": np.arange(40) % 3,
        "x_test": RNG.normal(size=(9, 3)).astype(np.float32), "y_test": np.arange(9) % 3, **changed,
    }  # fmt: skip
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array)
    return arrays


def feeds(data, split, **options):
    options = {"dataset": data, "batch_size": 7, "seed": 3, "device": "cpu", "train": True, **options}
    return feed_of(split, **options)


def test_batches_are_those_of_arrays_in_memory(tmp_path):
    arrays = save(tmp_path / "d")
    data = mapped.build(tmp_path, path="d")
    train = data.load()[0]
    whole = Split(torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"]))
    for epoch in range(2):
        own, other = feeds(data, train), feeds(data, whole)
        assert type(other) is Batches and own.num_batches == other.num_batches == 6
        for index in (0, 1, 2, 3, 4, 5, 2):
            for a, b in zip(own.batch(epoch, index), other.batch(epoch, index), strict=True):
                assert torch.equal(a, b)
    with pytest.raises(IndexError):
        own.batch(0, 6)


def test_a_part_held_out_is_not_copied(tmp_path):
    arrays = save(tmp_path / "d")
    data = HeldOut(mapped.build(tmp_path, path="d"), 0.25, 0, "mapped")
    train, validation, _ = data.load_all()
    assert (train.num_samples, validation.num_samples) == (30, 10) and train.x is validation.x
    again = train.take(torch.tensor([1, 0]))
    assert again.rows.tolist() == [int(train.rows[1]), int(train.rows[0])]
    feed = feeds(data, validation, train=False)
    seen = torch.cat([feed.batch(0, index)[0] for index in range(feed.num_batches)])
    assert torch.equal(seen, torch.from_numpy(arrays["x_train"])[validation.rows])
    seen = torch.cat([feeds(data, train).batch(0, index)[0] for index in range(5)])
    assert sorted(seen.tolist()) == sorted(arrays["x_train"][train.rows].tolist())


def test_what_is_asked_for_ahead(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(MappedArray, "ask_for", lambda self, rows: asked.append(rows.tolist()))
    save(tmp_path / "d")
    data = mapped.build(tmp_path, path="d")
    feed = feeds(data, data.load()[0])
    order = [rows.tolist() for rows in feed.order(0).split(7)]
    feed.batch(0, 0)
    assert asked == order[:5]
    feed.batch(0, 1)
    feed.batch(0, 2)
    assert asked == order  # each batch once
    feed.batch(1, 0)
    assert len(asked) == 11


class Pages:
    """Notes which pages are asked for."""

    def __init__(self, num_bytes):
        self.num_bytes, self.pieces = num_bytes, []

    def __len__(self):
        return self.num_bytes

    def madvise(self, advice, start, length):
        assert advice == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
        self.pieces.append((start // mmap.PAGESIZE, length / mmap.PAGESIZE))


def test_rows_are_asked_for_in_as_few_pieces_as_their_pages_are(tmp_path):
    row = mmap.PAGESIZE // 4  # in floats: a page
    np.save(tmp_path / "a.npy", np.zeros((10, row), np.float32))
    array = MappedArray(tmp_path / "a.npy")
    array._pages = pages = Pages((tmp_path / "a.npy").stat().st_size)
    array.ask_for(torch.tensor([6, 2, 3, 9, 0]))  # each reaches into the next page, for the header is before them
    assert pages.pieces == [(0, 4 + 1), (6, 2), (9, 1 + 128 / mmap.PAGESIZE)]


def test_a_checksum_of_some_samples_and_all_labels(tmp_path):
    y = np.arange(3000) % 3
    arrays = save(tmp_path / "d", x_train=RNG.normal(size=(3000, 3)).astype(np.float32), y_train=y)
    x, labels = mapped.build(tmp_path, path="d").load()[0].arrays
    assert x.shape == (1024, 3) and torch.equal(labels, torch.from_numpy(y))
    assert x[0].tolist() == arrays["x_train"][0].tolist() and x[-1].tolist() == arrays["x_train"][-1].tolist()


def test_it_travels_without_its_samples(tmp_path):
    save(tmp_path / "d", x_train=np.zeros((40, 3000), np.float32), x_test=np.zeros((9, 3000), np.float32))
    data = pickle.dumps(mapped.build(tmp_path, path="d"))
    assert len(data) < 2000 and pickle.loads(data).load()[0].x.shape == (40, 3000)


@pytest.mark.parametrize(("changed", "message"), [
    ({"y_test": None}, r"there is no such array \(expected: a file of numpy\.save at .*y_test\.npy"),
    ({"y_train": np.arange(39) % 3}, r"the train arrays of .* do not fit together \(given: x \(40, 3\), y \(39,\)"),
    ({"x_test": np.zeros((9, 4), np.float32)}, r"samples of .* differ \(given: x_train .*\(40, 3\), x_test .*\(9, 4\)"),
    ({"x_test": np.zeros((9, 3))}, r"samples of .* differ \(given: x_train of torch\.float32"),
    ({"x_train": np.zeros((40, 3), int), "x_test": np.zeros((9, 3), int)}, r"inputs of .* another dtype \(given"),
    ({"x_train": np.zeros((0, 3))}, r"x_train\.npy holds no samples \(given: float64 of shape \(0, 3\)"),
    ({"x_train": np.array(["a"] * 40)}, r"holds no samples \(given: <U1"),
    ({"y_train": np.arange(40) - 1, "y_test": np.arange(9)}, r"labels of .* are no classes \(given: .* -1 to 38"),
    ({"x_train": np.asfortranarray(RNG.normal(size=(40, 3)))}, r"is not a file of numpy\.save \(.*C order"),
    ({"x_validation": np.zeros((5, 3), np.float32)}, r"no such array .*y_validation\.npy"),
    ({"x_train": np.zeros((40, 3), np.longdouble)}, r"x_train\.npy has another dtype \(given: float128, .* 64 bits"),
    ({"y_test": np.arange(9, dtype="u8") + 2**63}, r"no classes \(given: 9223372036854775808 in sample 0"),
    ({"y_validation": np.zeros(5, np.int64)}, r"no such array .*x_validation\.npy"),
])  # fmt: skip
def test_arrays_that_do_not_do(tmp_path, changed, message):
    save(tmp_path / "d", **changed)
    with pytest.raises(ConfigError, match=message):
        mapped.build(tmp_path, path="d")


def test_damaged_files(tmp_path):
    save(tmp_path / "d")
    path = tmp_path / "d" / "x_train.npy"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", b"\x93NUMPY" + whole[7:], b"PK\x03\x04"):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=re.escape(f"{path} is not a file of numpy.save")):
            mapped.build(tmp_path, path="d")


def test_tokens(tmp_path):
    tokens = {"x_train": RNG.integers(0, 5, (40, 3)), "x_test": RNG.integers(0, 5, (9, 3))}
    save(tmp_path / "d", **tokens)
    spec = mapped.build(tmp_path, path="d", num_tokens=5).spec
    assert (spec.num_tokens, spec.input_dtype, spec.is_mapped) == (5, torch.int64, True)


def test_the_data_of_a_run(tmp_path):
    save(tmp_path / "d")
    expected = r"the data that were handed over to the run are not there \(given: .*; expected: those of SHA-256 ab\)"
    with pytest.raises(ConfigError, match=expected):
        mapped.build(tmp_path, path="d", sha256="ab")
    for text in ("{", "[]", json.dumps({"sha256": "cd"})):
        (tmp_path / "d" / "data.json").write_text(text)
        with pytest.raises(ConfigError, match=expected):
            mapped.build(tmp_path, path="d", sha256="ab")
    assert mapped.build(tmp_path, path="d", sha256="cd").spec.num_train == 40


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_labels_without_signs(tmp_path, dtype):
    labels = (np.arange(40) % 3).astype(dtype)
    save(tmp_path / "d", y_train=labels, y_test=labels[:9])
    data = mapped.build(tmp_path, path="d")
    assert data.spec.task.num_outputs == 3 and data.load()[0].y.dtype == data.spec.task.label_dtype
    assert feeds(data, data.load()[1], train=False).batch(0, 0)[1].tolist() == labels[:7].tolist()


@pytest.mark.parametrize("token", [5, -1])
def test_a_token_that_there_is_not(tmp_path, token):
    tokens = RNG.integers(0, 5, size=(40, 3)).astype(np.int32)
    save(tmp_path / "d", x_train=tokens, x_test=tokens[:9])
    changed = tokens.copy()
    changed[17, 2] = token
    np.save(tmp_path / "d" / "x_train.npy", changed)
    data = mapped.build(tmp_path, path="d", num_tokens=5)
    train, test = (feeds(data, split, train=False) for split in data.load())
    assert torch.equal(test.batch(0, 1)[0], torch.from_numpy(tokens[7:9]).long())
    with pytest.raises(ConfigError, match=rf"no such token \(given: {token} in sample 17 of .*x_train\.npy, .* 0 to 4"):
        train.batch(0, 2)
