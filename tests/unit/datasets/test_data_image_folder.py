"""The user's own pictures: classes, sizes, and what is missing."""

import pytest
import torch
from PIL import Image

from pipeline.data.augment import Augment
from pipeline.datasets.image_folder import build
from pipeline.errors import ConfigError


def write(root, splits=("train", "test"), classes=("cat", "dog"), count=2, size=(6, 6)):
    for split in splits:
        for label, name in enumerate(classes):
            folder = root / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", size, (100 * label, 50 * i, 7)).save(folder / f"{i}.png")


def test_classes_are_folders_in_order(tmp_path):
    write(tmp_path)
    (tmp_path / "pets" / "train" / "dog" / "notes.txt").write_text("not a picture")
    (tmp_path / "pets" / "train" / "dog" / ".hidden.png").write_text("not a picture")
    (tmp_path / "pets" / "train" / ".thumbnails").mkdir()
    data = build(tmp_path, path="pets", image_size=6)
    spec = data.spec
    assert (spec.input_shape, spec.task.num_outputs, spec.num_train, spec.num_test) == ((3, 6, 6), 2, 4, 4)
    train, test = data.load()
    assert train.y.tolist() == test.y.tolist() == [0, 0, 1, 1]
    colours = torch.tensor([[0, 0, 7], [0, 50, 7], [100, 0, 7], [100, 50, 7]], dtype=torch.uint8)
    assert torch.equal(train.x, colours[:, :, None, None].expand(4, 3, 6, 6))


def test_val_stands_for_test_and_a_path_may_be_absolute(tmp_path):
    write(tmp_path, splits=("train", "val"))
    options = {"image_size": 6, "augment": Augment(1, True, 2)}
    data = build(tmp_path / "elsewhere", path=str(tmp_path / "pets"), **options)
    assert data.spec.num_test == 4 and data.augment == Augment(1, True, 2)


def test_the_normalisation_is_an_option(tmp_path):
    write(tmp_path)
    assert build(tmp_path, path="pets", image_size=6, channels=1, mean=(0.5,)).normalisation.mean == (0.5,)
    default = build(tmp_path, path="pets", image_size=6).normalisation
    assert default.mean == (0.0,) * 3 and default.std == (1.0,) * 3


def test_a_missing_folder_is_explained(tmp_path):
    with pytest.raises(ConfigError, match=f"expected: a folder train in {tmp_path}/pets.*dataset.path"):
        build(tmp_path, path="pets", image_size=6)
    write(tmp_path, splits=("train",))
    with pytest.raises(ConfigError, match="expected: a folder test or val in"):
        build(tmp_path, path="pets", image_size=6)


def test_splits_of_other_classes_are_refused(tmp_path):
    write(tmp_path, splits=("train",), classes=("cat", "dog"))
    write(tmp_path, splits=("test",), classes=("cat", "fish"))
    with pytest.raises(ConfigError, match="classes of .* differ .given in one of them only: dog, fish"):
        build(tmp_path, path="pets", image_size=6)


def test_pictures_of_one_class_are_refused(tmp_path):
    write(tmp_path, classes=("cat",))
    expected = r"there is one class only \(given: the folder .*train/cat; expected: a folder for each of 2 classes"
    with pytest.raises(ConfigError, match=expected):
        build(tmp_path, path="pets", image_size=6)


def test_a_split_without_pictures_is_refused(tmp_path):
    write(tmp_path, count=0)
    with pytest.raises(ConfigError, match=r"there are no pictures in .*train \(expected: <class>/\* ending in .bmp, "):
        build(tmp_path, path="pets", image_size=6)


def test_a_smaller_training_set_has_pictures_of_every_class(tmp_path):
    write(tmp_path, classes=("cat", "dog", "fish"), count=4)
    for name in ("1", "2", "3"):
        (tmp_path / "pets" / "train" / "dog" / f"{name}.png").unlink()
    data = build(tmp_path, path="pets", image_size=6, train_samples=6)
    train, test = data.load()
    assert (data.spec.num_train, data.spec.num_test) == (len(train.y), len(test.y)) == (6, 12)
    assert train.y.tolist() == [0, 0, 0, 1, 2, 2]  # the third one of cats before the third one of fish
    assert train.x[:, 1, 0, 0].tolist() == [0, 50, 100, 0, 0, 50]  # the first ones of each class
    whole, _ = build(tmp_path, path="pets", image_size=6, train_samples=9).load()
    assert whole.y.tolist() == [0] * 4 + [1] + [2] * 4
    with pytest.raises(ConfigError, match=r"not that many training pictures in .*train_samples = 10, expected: 1 to 9"):
        build(tmp_path, path="pets", image_size=6, train_samples=10)


def test_a_picture_added_after_the_start_is_noticed(tmp_path):
    write(tmp_path)
    data = build(tmp_path, path="pets", image_size=6)
    Image.new("RGB", (6, 6)).save(tmp_path / "pets" / "train" / "cat" / "new.png")
    with pytest.raises(ConfigError, match="the training samples of image_folder .* was changed meanwhile"):
        data.load()


def test_options_out_of_range_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the image size is out of range \(given: dataset.image_size=0"):
        build(tmp_path, path="pets", image_size=0)
    for option in ({"mean": (0.5,)}, {"std": (1.0, 1.0)}, {"std": (1.0, 0.0, 1.0)}):
        with pytest.raises(ConfigError, match="the normalisation does not fit the pictures .* expected: 3 numbers"):
            build(tmp_path, path="pets", image_size=6, **option)
