import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from pipeline.data.own_data import write_own
from pipeline.data.task import Classification, Labels
from pipeline.datasets import mapped
from pipeline.errors import ConfigError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(9, 4)).astype(np.float32), np.array([0, 1, 2] * 3)
TEST = X[:3], Y[:3]


class Items(Dataset):
    """A map-style data set of what it is given."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Endless(IterableDataset):
    """Has no length."""

    def __iter__(self):
        return iter(())


class Table:
    """Stands in for a table of Hugging Face datasets: columns by name, rows by slices."""

    def __init__(self, **columns):
        self.columns = columns
        self.column_names = [*columns]

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return {name: list(column[rows]) for name, column in self.columns.items()}


def handed(tmp_path, train, test=TEST, **others):
    options = write_own({"train": train, "test": test, **others}, tmp_path)
    return mapped.build(tmp_path, **options), options


@pytest.mark.parametrize("train", [
    (X, Y), (torch.from_numpy(X), torch.from_numpy(Y)), [X.astype(np.float64), Y.tolist()],
    Items(*zip(X, Y, strict=True)), Items(*((torch.from_numpy(x), int(y)) for x, y in zip(X, Y, strict=True))),
    Table(features=X, label=Y), Table(labels=Y.tolist(), features=[*X]),
], ids=["arrays", "tensors", "lists", "dataset", "dataset of tensors", "table", "table of lists"])  # fmt: skip
def test_whatever_is_handed_over(tmp_path, train):
    data, options = handed(tmp_path, train)
    split = data.load()[0]
    assert torch.equal(split.x, torch.from_numpy(X)) and torch.equal(split.y, torch.from_numpy(Y))
    assert isinstance(data.spec.task, Classification) and data.spec.task.num_outputs == 3
    assert (data.spec.num_train, data.spec.num_test, data.spec.input_shape) == (9, 3, (4,))
    assert options["path"] == str(tmp_path / f"data-{options['sha256'][:12]}") and options["num_tokens"] == 0


def test_the_same_data_have_one_folder(tmp_path):
    first, again, other = (handed(tmp_path, (x, Y))[1] for x in (X, torch.from_numpy(X), X + 1))
    assert first == again and other["sha256"] != first["sha256"]
    assert sorted(os.listdir(tmp_path)) == sorted(f"data-{o['sha256'][:12]}" for o in (first, other))
    about = json.loads((tmp_path / os.path.basename(first["path"]) / "data.json").read_text())
    assert about["sha256"] == first["sha256"] and sorted(about["files"]) == [
        "x_test.npy", "x_train.npy", "y_test.npy", "y_train.npy",
    ]  # fmt: skip


def test_a_validation_set(tmp_path):
    data, _ = handed(tmp_path, (X, Y), validation=(X[3:8], Y[3:8]))
    splits = data.load_all()
    assert data.spec.num_validation == 5 and torch.equal(splits.scored.x, torch.from_numpy(X[3:8]))


def test_many_chunks(tmp_path):
    x = RNG.normal(size=(700, 10_000)).astype(np.float32)  # more than a chunk of a pair
    data, _ = handed(tmp_path, (x, np.arange(700) % 2), (x[:5], np.arange(5) % 2))
    assert torch.equal(data.load()[0].x, torch.from_numpy(x))
    rows = Items(*((row[:3], n % 2) for n, row in enumerate(x)))  # and than one of items
    data, _ = handed(tmp_path, rows, (x[:5, :3], np.arange(5) % 2))
    assert torch.equal(data.load()[0].x, torch.from_numpy(x[:, :3].copy()))


def test_pictures(tmp_path):
    pixels = RNG.integers(0, 256, size=(4, 5, 6, 3), dtype=np.uint8)
    table = Table(image=[Image.fromarray(p) for p in pixels], label=[0, 1, 0, 1])
    grey = Items(*((Image.fromarray(p[..., 0]), 0) for p in pixels))
    data, _ = handed(tmp_path, table, table)
    assert data.spec.input_shape == (3, 5, 6) and data.load()[0].x.dtype == torch.uint8
    assert np.array_equal(data.load()[0].x.numpy(), pixels.transpose(0, 3, 1, 2))
    data, _ = handed(tmp_path, grey, Items((Image.fromarray(pixels[0, ..., 0]), 1)))
    assert data.spec.input_shape == (1, 5, 6)


def test_pictures_with_a_palette_are_looked_up_in_it(tmp_path):
    """Their pixels are places in the palette, which say nothing."""
    pixels = RNG.integers(0, 2, (4, 5, 6, 1), dtype=np.uint8) * np.array([250, 9, 70], np.uint8)
    images = [Image.fromarray(p).quantize(4) for p in pixels]
    data, _ = handed(tmp_path, Items(*((image, k % 2) for k, image in enumerate(images))), Items((images[0], 1)))
    assert np.array_equal(data.load()[0].x.numpy(), pixels.transpose(0, 3, 1, 2))
    clear = images[1].copy()
    clear.info["transparency"] = 0
    text = r"a picture of the train data is not clear \(given: transparent pixels in a palette, mode P; expected: op"
    with pytest.raises(ConfigError, match=text):
        handed(tmp_path, Items((images[0], 0), (clear, 1)), Items((images[0], 1)))


def test_numbers_tokens_and_positions(tmp_path):
    data, _ = handed(tmp_path, (X, X[:, :2]), (X, X[:, :2]))
    assert data.spec.task.labels is Labels.NUMBERS and data.spec.task.num_outputs == 2
    data, _ = handed(tmp_path, (X, X[:, 0]), (X, X[:, 0]))
    assert data.spec.task.out_shape == (1,) and data.load()[0].y.shape == (9, 1)
    tokens = RNG.integers(0, 7, size=(9, 4))
    tokens[0, 0] = 6
    data, options = handed(tmp_path, (tokens, tokens), (tokens[:3], tokens[:3]))
    assert (options["num_tokens"], data.spec.num_tokens, data.spec.input_dtype) == (7, 7, torch.int64)
    assert data.spec.task.labels is Labels.CLASSES and data.spec.task.positions == (4,)
    assert data.load()[0].y.dtype == data.spec.task.label_dtype


WRONG = [
    pytest.param({"train": (X, Y)}, r"handed over by split \(given: train, expected", id="no test"),
    pytest.param({"train": (X, Y), "tests": TEST}, r"by split \(given: train, tests", id="unknown split"),
    pytest.param({}, r"by split \(given: none", id="nothing"),
    pytest.param([TEST, TEST], r"by split \(given: list", id="no dictionary"),
    pytest.param({"train": (X, Y[:8])}, r"train data have two lengths \(given: 9 inputs and 8 labels", id="lengths"),
    pytest.param({"train": (X,)}, r"train data are no pair \(given: 1 things", id="no pair"),
    pytest.param({"train": (X[:0], Y[:0])}, r"train data are empty", id="empty"),
    pytest.param({"train": Items()}, r"train data are empty", id="empty data set"),
    pytest.param({"train": Endless()}, r"train data are none \(given: Endless", id="a stream"),
    pytest.param({"train": Items(X[0], X[1])}, r"item of the train data is no pair \(given: ndarray at 0", id="item"),
    pytest.param({"train": Items((X[0], 1, 2))}, r"no pair \(given: 3 things at 0", id="three in an item"),
    pytest.param({"train": Items((X[0], 0), (X[0][:2], 1))}, r"samples differ \(given: .* 0, .* at 1", id="shapes"),
    pytest.param({"train": (np.where(X > 9, X, np.nan), Y)}, r"inputs have .* \(given: nan in sample 0", id="nan"),
    pytest.param({"test": (X * np.float64(1e300), Y)}, r"test inputs have .*float32 \(given: -?[\d.]+e", id="infinite"),
    pytest.param({"train": (X > 0, Y)}, r"train inputs have another dtype \(given: bool", id="booleans"),
    pytest.param({"train": (X, Y > 0)}, r"train labels have another dtype \(given: bool", id="labels"),
    pytest.param({"train": (X.astype(str), Y)}, r"train inputs have another dtype \(given: <U", id="text"),
    pytest.param({"train": (X.astype(np.int32), Y)}, r"another dtype \(given: int32", id="narrow whole numbers"),
    pytest.param({"train": (np.full((9, 4), -1), Y)}, r"one is below 0 \(given: -1", id="tokens below 0"),
    pytest.param({"test": (X[:, :3], Y)}, r"test inputs differ from the others \(given: .*\(3,\)", id="test's shape"),
    pytest.param({"test": (X, Y * 1.0)}, r"test labels differ from the others", id="test's labels"),
    pytest.param({"train": (X, Y - 1)}, r"no classes \(given: whole numbers from -1 to 2", id="labels below 0"),
    pytest.param({"test": (X, Y.astype("u8") + 2**63)}, r"given: 9223372036854775808 in sample 0", id="uint64"),
    pytest.param({"train": (X, Y * 0), "test": (X, Y * 0)}, r"from 0 to 0, expected: .* 2 classes", id="one class"),
    pytest.param({"train": Table(a=X, b=X)}, r"table does not say .* \(given: columns a, b", id="no label"),
    pytest.param({"train": Table(a=X, b=X, label=Y)}, r"columns a, b, label", id="three columns"),
    pytest.param({"train": (object(), object())}, r"train data are empty", id="objects"),
    pytest.param({"train": Items((X[0], None), (X[1], None))}, r"labels have another dtype \(given: object", id="None"),
    pytest.param({"train": Items(([[1], [1, 2]], 0))}, r"train data are no numbers \(given: list", id="ragged"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_what_cannot_be_learned_from(tmp_path, data, message):
    if "by split" not in message:
        data = {"train": (X, Y), "test": TEST, **data}
    with pytest.raises(ConfigError, match=message) as caught:
        write_own(data, tmp_path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the data cannot be written beside the run \(given: .*file"):
        write_own({"train": (X, Y), "test": TEST}, tmp_path / "file")


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", lambda _, mode: open("/dev/full", mode))
    with pytest.raises(ConfigError, match=r"cannot be written beside the run \(given: .*, No space left on device\)"):
        write_own({"train": (X, Y), "test": TEST}, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("change", ["gone", "cut", "other labels"])
def test_a_folder_that_was_changed_since_is_not_taken(tmp_path, change):
    data = {"train": (X, Y), "test": TEST}
    folder = Path(write_own(data, tmp_path)["path"])
    assert write_own(data, tmp_path)["path"] == str(folder)
    name = {"gone": "x_test.npy", "cut": "x_train.npy", "other labels": "y_train.npy"}[change]
    if change == "gone":
        (folder / name).unlink()
    else:
        np.save(folder / name, X[:5] if change == "cut" else Y[::-1])
    with pytest.raises(ConfigError, match=rf"these data was changed \(given: .*{name}, .* Remove the folder"):
        write_own(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
