import pickle
import sys

import pytest
import torch

from pipeline.data.windows import Stream
from pipeline.datasets import text
from pipeline.errors import ConfigError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_file_is_cut_into_nine_tenths_and_windows_side_by_side(tmp_path):
    content = bytes(range(250)) * 4
    write(tmp_path / "a.txt", content)
    data = text.build(tmp_path, path="a.txt", window=7)
    train, test = data.load()
    assert isinstance(train, Stream) and (train.window, train.num_windows) == (7, 899 // 7)
    assert bytes(train.x) == content[:899] and bytes(train.y) == content[1:900]
    assert bytes(test.x.flatten()) == content[900 : 900 + 14 * 7]
    assert bytes(test.y.flatten()) == content[901 : 901 + 14 * 7]
    assert (data.spec.num_train, data.spec.num_test, data.spec.input_shape) == (128, 14, (7,))
    assert data.spec.task.out_shape == (7, 256) and data.spec.num_tokens == 256 and data.spec.is_augmented
    assert data.spec.input_dtype is torch.int64
    assert text.build(tmp_path, path="a.txt", window=7, windows=5).load()[0].num_windows == 5


def test_a_folder_is_read_in_the_order_of_names_without_hidden_files(tmp_path):
    write(tmp_path / "b" / "two.bin", b"\xff\x00" * 40)
    write(tmp_path / "b" / "a" / "one.txt", b"ab" * 30)
    write(tmp_path / "b" / ".hidden", b"no" * 30)
    write(tmp_path / "b" / ".git" / "x", b"no" * 30)
    train, test = pickle.loads(pickle.dumps(text.build(tmp_path, path="b", window=4))).load()
    assert bytes(train.x)[:60] == b"ab" * 30 and bytes(train.x)[60:] == (b"\xff\x00" * 40)[:65]
    assert test.x.shape == (3, 4)


def test_the_text_that_comes_with_python():
    data = text.build(None)
    train, test = data.load()
    assert len(train.x) > 300_000 and test.x.shape == (data.spec.num_test, 128)
    assert b"assert" in bytes(train.x) and train.x.dtype is torch.uint8


@pytest.mark.parametrize(
    ("content", "window", "given"),
    [(b"", 8, "0 bytes, of which 0"), (b"x" * 80, 8, "80 bytes, of which 8"), (b"x" * 1000, 128, "of which 100")],
)
def test_too_little_text(tmp_path, content, window, given):
    write(tmp_path / "a.txt", content)
    expected = rf"too short for its windows \(given: .*a\.txt of .*{given} .*dataset\.window = {window}; expected: " \
               rf"at least {window + 1}\)\. Lower"  # fmt: skip
    with pytest.raises(ConfigError, match=expected):
        text.build(tmp_path, path="a.txt", window=window)


def test_the_shortest_text_there_is(tmp_path):
    write(tmp_path / "a.txt", b"x" * 90)
    assert text.build(tmp_path, path="a.txt", window=8).load()[1].x.shape == (1, 8)


def test_no_text(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "missing"):
        with pytest.raises(ConfigError, match=rf"there is no text \(expected: a file, or a .*{path}\)\. Correct"):
            text.build(tmp_path, path=path)


def test_a_text_that_changes_meanwhile(tmp_path):
    write(tmp_path / "a.txt", b"x" * 200)
    data = text.build(tmp_path, path="a.txt", window=8)
    write(tmp_path / "a.txt", b"x" * 199)
    with pytest.raises(ConfigError, match=r"changed while the run began \(given: .*199 bytes, expected: 200\)\. Start"):
        data.load()


def test_a_file_that_cannot_be_read_any_more(tmp_path):
    write(tmp_path / "a.txt", b"x" * 200)
    data = text.build(tmp_path, path="a.txt", window=8)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ConfigError, match=r"cannot read the text \(given: .*FileNotFoundError: .*a\.txt.*; expected: a "
                                          r"file of 200 bytes.*\)\. See to its files"):
        data.load()


def test_a_python_without_its_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ConfigError, match=r"this Python has no text of its own \(given: no dataset\.path; .*\)\. Name"):
        text.build(None)
