import pytest
import torch

from pipeline.config import Config
from pipeline.data.task import Classification, Labels
from pipeline.datasets import csv
from pipeline.errors import ConfigError
from pipeline.resolve import load_dataset

TRAIN = "a,b,kind\n1,2.5,0\n-3,4e-1,2\n5,6,1\n"
TEST = "a,b,kind\n7,8,1\n"


def save(tmp_path, train=TRAIN, test=TEST, **others):
    for name, text in {"train": train, "test": test, **others}.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf8")
    return {"path": "train.csv", "test_path": "test.csv"}


def built(tmp_path, files, **options):
    return csv.build(tmp_path, **files, **options)


def test_a_class_for_each_row(tmp_path):
    data = built(tmp_path, save(tmp_path))
    train, validation, test = data.load_all()
    assert isinstance(data.spec.task, Classification) and data.spec.task.num_outputs == 3 and validation is None
    assert torch.equal(train.x, torch.tensor([[1, 2.5], [-3, 0.4], [5, 6]])) and train.y.tolist() == [0, 2, 1]
    assert (data.spec.num_train, data.spec.num_test, data.spec.input_shape) == (3, 1, (2,))
    assert test.x.tolist() == [[7, 8]] and test.y.dtype is torch.int64


@pytest.mark.parametrize("label", ["a", "0", 0])
def test_another_column_of_numbers(tmp_path, label):
    data = built(tmp_path, save(tmp_path), label=label, labels="numbers")
    train = data.load()[0]
    assert data.spec.task.labels is Labels.NUMBERS and train.y.tolist() == [[1], [-3], [5]]
    assert train.x.tolist() == [[2.5, 0], [pytest.approx(0.4), 2], [6, 1]]


def test_no_names_other_delimiter_and_a_validation_set(tmp_path):
    files = save(tmp_path, "1;2;0\n3;4;1\n", "5;6;1\n", validation="7;8;0\n9;1;1\n")
    data = built(tmp_path, files, delimiter=";", validation_path="validation.csv")
    assert data.spec.num_validation == 2 and data.load_all().validation.x.tolist() == [[7, 8], [9, 1]]


@pytest.mark.parametrize(("files", "options", "message"), [
    ({"train": "a,b\n1,0\n2,blue\n"}, {}, r"something else than numbers in it \(given: .*train\.csv, .*'blue'.* row 1"),
    ({"test": "a,b,kind\n1,2\n"}, {}, r"tables do not fit together \(given: .*test\.csv of 2 columns, .* of 3"),
    ({"train": "1,2,0\n1,2\n"}, {}, r"something else than numbers in it .*columns"),
    ({"train": "a,b,kind\n"}, {}, r"the table is empty \(given: .*train\.csv"),
    ({"train": ""}, {}, r"the table is empty"),
    ({"train": "1\n0\n", "test": "1\n"}, {}, r"tables do not fit together .* 2 or more"),
    ({"test": "a,b,kind\n1,nan,0\n"}, {}, r"nan, infinite or beyond float32 \(given: nan in row 0, column 1"),
    ({"test": "a,b,kind\n1,1e300,0\n"}, {}, r"beyond float32 \(given: 1e\+300"),
    ({"train": "1,2,0.5\n", "test": "1,2,0\n"}, {}, r"labels of .* are no classes \(given: 0\.5.*\"numbers\""),
    ({"train": "1,2,-1\n", "test": "1,2,0\n"}, {}, r"no classes \(given: whole numbers from -1 to 0"),
    ({"train": "1,2,0\n1,2,1e30\n", "test": "1,2,0\n"}, {}, r"no classes \(given: 1e\+30 in sample 1, expected"),
    ({"train": "1,\n2,0\n", "test": "1,1\n"}, {}, r"something else than numbers in it .*'' to float64 at row 0"),
    ({"test": "kind,a,b\n1,7,8\n"}, {}, r"other columns \(given: kind, a, b in .*test\.csv, a, b, kind in "),
    ({}, {"label": "colour"}, r"no such column \(given: dataset\.label = 'colour' of .*expected: a, b, kind"),
    ({"train": "1,2,0\n", "test": "1,2,1\n"}, {"label": "3"}, r"expected: 0 to 2\)"),
    ({}, {"delimiter": ""}, r"columns are apart by one character \(given: dataset\.delimiter = ''"),
    ({}, {"delimiter": "\""}, r"columns are apart by one character \(given: dataset\.delimiter = '\"'"),
    ({}, {"delimiter": "\n"}, r"columns are apart by one character \(given: dataset\.delimiter = '\\n', .* end of a"),
    ({}, {"delimiter": "\r"}, r"columns are apart by one character"),
    ({}, {"delimiter": "1"}, r"columns are apart by one character .* does not stand in a number"),
    ({"train": "1,2,0\n#3,3,1\n", "test": "1,2,1\n"}, {}, r"else than numbers in it .*'#3' .* row 1.*no comment here"),
    ({"train": "1,2,0\n3,1,1#junk\n", "test": "1,2,1\n"}, {}, r"something else than numbers in it .*'1#junk'"),
    ({"test": "a,b\n1,2,0\n"}, {}, r"not one name each \(given: .*test\.csv with the names a, b, and 3 col"),
    ({"train": "# made by hand\n1,2,0\n"}, {}, r"the names # made by hand, and 3 columns.*no comment here"),
    ({"train": "# a,b,c\n1,2,0\n", "test": "# a,b,c\n1,2,0\n"}, {"label": "a"}, r"no such column .*no comment here"),
    ({}, {"test_path": "none.csv"}, r"there is no table \(expected: a file at .*none\.csv"),
])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_tables_that_do_not_do(tmp_path, files, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        csv.build(tmp_path, **{**save(tmp_path, **files), **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe1,2\n", b"1,2,0\n1,\x80,0\n", b"\x00\x00"])
def test_what_is_no_text(tmp_path, content):
    files = save(tmp_path)
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(ConfigError, match="something else than numbers|the table is empty"):
        built(tmp_path, files)


def test_a_table_that_is_changed_meanwhile(tmp_path):
    data = built(tmp_path, save(tmp_path))
    save(tmp_path, train=TRAIN + "1,1,1\n")
    with pytest.raises(ConfigError, match=r"training samples of csv have other shapes .* was changed meanwhile"):
        data.load()


def test_a_column_by_its_number_in_a_config(tmp_path):
    save(tmp_path)
    overrides = ["dataset.name=csv", "dataset.path=train.csv", "dataset.test_path=test.csv", "dataset.label=2"]
    data = load_dataset(Config().overridden(overrides), tmp_path)
    assert data.load()[0].y.tolist() == [0, 2, 1]


def test_a_delimiter_that_may_begin_a_comment(tmp_path):
    files = save(tmp_path, "1#2#0\n3#4#1\n", "5#6#1\n")
    assert built(tmp_path, files, delimiter="#").load()[0].x.tolist() == [[1, 2], [3, 4]]


def test_what_spreadsheets_write(tmp_path):
    """A mark in front of the first number or name, and quotes."""
    files = save(tmp_path, "\ufeff1,2,0\n3,4,1\n", "\ufeff5,6,1\n")
    assert built(tmp_path, files).load()[0].x.tolist() == [[1, 2], [3, 4]]
    files = save(tmp_path, "\ufeff\"kind\",\"a, b\",c\n\"0\",1,2\n1,3,4\n", "kind,\"a, b\",c\n1,5,6\n")
    data = built(tmp_path, files, label="kind")
    assert data.load()[0].x.tolist() == [[1, 2], [3, 4]] and data.load()[1].y.tolist() == [1]
    assert built(tmp_path, files, label="c", labels="numbers").load()[0].y.tolist() == [[2], [4]]


def test_no_copy_of_a_table_stays_that_has_been_read(tmp_path):
    data = built(tmp_path, save(tmp_path))
    data.load()
    assert csv._parsed.cache_info().currsize == 0
