"""What a data set promises is held against what it reads."""

import pickle

import pytest
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import ArrayDataset, DataSpec, Split
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Binary, Classification
from pipeline.errors import ConfigError

SPEC = DataSpec((2,), Classification(3), 4, 2)


def good():
    return Split(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0])), Split(torch.zeros(2, 2), torch.tensor([0, 2]))


def dataset(read, spec=SPEC):
    return ArrayDataset("toy", spec, read, remedy="Fetch it again.")


def test_load_returns_what_was_read():
    train, test = dataset(good).load()
    assert train.y.tolist() == [0, 1, 2, 0] and test.y.tolist() == [0, 2]


def test_the_spec_tells_whether_samples_are_augmented():
    assert not dataset(good).spec.is_augmented
    assert ArrayDataset("toy", SPEC, good, augment=Augment(flip=True)).spec.is_augmented


def test_a_data_set_can_be_pickled():
    again = pickle.loads(pickle.dumps(dataset(good)))
    assert again.load()[0].y.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("short"), EOFError("end"), KeyError("data")])
def test_unreadable_files_are_reported_with_the_next_move(error):
    def read():
        raise error

    with pytest.raises(ConfigError, match=rf"cannot read the data set toy \({type(error).__name__}: .*Fetch it again"):
        dataset(read).load()


def test_an_error_of_the_reader_that_explains_itself_is_left_alone():
    def read():
        raise ConfigError("cannot read the picture a.jpg")

    with pytest.raises(ConfigError, match="^cannot read the picture a.jpg$"):
        dataset(read).load()


@pytest.mark.parametrize(
    "split",
    [
        Split(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)),
        Split(torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64)),
        Split(torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64)),
        Split(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int32)),
    ],
)
def test_contents_of_another_shape_are_refused(split):
    with pytest.raises(ConfigError, match=r"the training samples of toy .* expected: inputs \(4, 2\), labels \(4,\)"):
        dataset(lambda: (split, good()[1])).load()


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(label):
    split = Split(torch.zeros(2, 2), torch.tensor([1, label]))
    with pytest.raises(ConfigError, match=r"a test label of toy is out of range .* expected: 0 to 2\)"):
        dataset(lambda: (good()[0], split)).load()


def test_one_output_stands_for_two_classes():
    x = torch.zeros(2, 2)
    spec = DataSpec((2,), Binary(), 2, 2)
    train, _ = dataset(lambda: (Split(x, torch.tensor([0, 1])), Split(x, torch.tensor([1, 1]))), spec).load()
    assert train.y.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="expected: 0 to 1"):
        dataset(lambda: (Split(x, torch.tensor([0, 2])), Split(x, torch.tensor([1, 1]))), spec).load()


TOKENS = DataSpec((3,), PositionClasses(5, (3,)), 4, 2, input_dtype=torch.int64, num_tokens=4)


def tokens(**changed):
    """Splits of tokens and classes at three positions; the training split changed."""
    y = torch.zeros(4, 3, dtype=torch.uint8)
    train = Split(changed.get("x", torch.zeros(4, 3, dtype=torch.int64)), changed.get("y", y))
    return train, Split(torch.zeros(2, 3, dtype=torch.int64), y[:2])


def test_labels_at_positions():
    assert dataset(tokens, TOKENS).load()[0].y.shape == (4, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": torch.zeros(4, 3)}, r"labels \(4, 3\) of torch\.float32, expected: .*\(4, 3\) of torch\.uint8\)"),
        ({"y": torch.zeros(4, dtype=torch.uint8)}, r"labels \(4,\) of torch\.uint8, expected: .*labels \(4, 3\)"),
        ({"y": torch.full((4, 3), 5, dtype=torch.uint8)}, r"label of toy .*\(given: 5 to 5, expected: 0 to 4"),
        ({"x": torch.zeros(4, 3)}, r"training samples of toy are no tokens \(given: torch\.float32, expected: i"),
        ({"x": torch.full((4, 3), 4)}, r"a training token of toy is out of range \(given: 4 to 4, expected: 0 to 3\)"),
    ],
)
def test_other_labels_or_tokens_than_promised(changed, message):
    with pytest.raises(ConfigError, match=message):
        dataset(lambda: tokens(**changed), TOKENS).load()


def test_numbers_may_be_any():
    spec = DataSpec((2,), Regression(3), 4, 2)
    splits = Split(torch.zeros(4, 2), torch.full((4, 3), -7.5)), Split(torch.zeros(2, 2), torch.ones(2, 3))
    assert dataset(lambda: splits, spec).load() == splits


@pytest.mark.parametrize(("dtype", "num_tokens"), [(torch.int64, 0), (torch.float32, 4)])
def test_tokens_are_integers_and_counted(dtype, num_tokens):
    with pytest.raises(ValueError, match=rf"tokens are integers, and counted \(given: input_dtype = {dtype} with "
                                         rf"num_tokens = {num_tokens}, expected: an integer dtype and at least 1, or "
                                         r"a floating-point one and 0\)\. Correct one"):
        DataSpec((3,), PositionClasses(5, (3,)), 4, 2, input_dtype=dtype, num_tokens=num_tokens)
