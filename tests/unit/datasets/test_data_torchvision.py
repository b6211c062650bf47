"""Missing files are downloaded, or their absence is explained in one line."""

import logging
import socket
import sys
import urllib.error

import pytest

from pipeline.datasets import _torchvision
from pipeline.datasets._torchvision import ensure
from pipeline.errors import ConfigError


class FakeDatasets:
    """Stands for ``torchvision.datasets``; ``work`` is what a download does."""

    def __init__(self, work):
        self.work = work
        self.calls = []

    def Toy(self, root, download, **options):  # noqa: N802
        self.calls.append((root, download, options))
        self.timeout = socket.getdefaulttimeout()
        print("Downloading")
        print("100 %", file=sys.stderr)
        self.work()


@pytest.fixture
def fake(monkeypatch):
    def install(work=lambda: None):
        datasets = FakeDatasets(work)
        monkeypatch.setattr(_torchvision, "torchvision_datasets", lambda: datasets)
        return datasets

    return install


def ask(root, download=True, files=("a", "b")):
    splits = [{"split": "train"}, {"split": "test"}]
    ensure("toy", [root / f for f in files], root=root, class_name="Toy", splits=splits, download=download)


def test_files_that_are_there_are_left_alone(tmp_path, fake):
    datasets = fake()
    (tmp_path / "a").touch()
    ask(tmp_path, files=["a"])
    assert datasets.calls == []


def test_every_split_is_downloaded_to_the_root(tmp_path, fake):
    root = tmp_path / "new"
    datasets = fake(lambda: [(root / name).touch() for name in "ab"])
    ask(root)
    assert datasets.calls == [(str(root), True, {"split": "train"}), (str(root), True, {"split": "test"})]


def test_sockets_have_a_timeout_during_the_download_only(tmp_path, fake):
    datasets = fake()
    before = socket.getdefaulttimeout()
    with pytest.raises(ConfigError, match="the download brought other files"):
        ask(tmp_path)
    assert 0 < datasets.timeout <= 15
    assert socket.getdefaulttimeout() == before


def test_nothing_is_printed_unless_progress_is_wanted(tmp_path, fake, capsys, caplog):
    fake()
    for level, shown in ((logging.WARNING, ""), (logging.INFO, "100 %\n" * 2)):
        with caplog.at_level(level, logger=_torchvision.__name__), pytest.raises(ConfigError):
            ask(tmp_path)
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", shown)


def test_a_failed_download_is_one_line_with_the_next_move(tmp_path, fake):
    def fail():
        raise urllib.error.URLError("no\nnetwork")

    fake(fail)
    with pytest.raises(ConfigError) as caught:
        ask(tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "the data set toy is not there (given: the download failed, URLError: <urlopen error no network>" in text
    assert f"expected: a, b in {tmp_path})" in text
    assert "--data-root or ONWARD_DATA" in text
    assert caught.value.__cause__ is None


def test_a_download_can_be_forbidden(tmp_path, fake):
    datasets = fake()
    with pytest.raises(ConfigError, match="given: dataset.download is false, expected: b in"):
        (tmp_path / "a").touch()
        ask(tmp_path, download=False)
    assert datasets.calls == []


def test_many_missing_files_are_counted(tmp_path, fake):
    with pytest.raises(ConfigError, match="expected: 0, 1, 2, 3 and 3 more in"):
        ask(tmp_path, download=False, files=[str(i) for i in range(7)])


def test_a_folder_that_cannot_be_made_is_explained(tmp_path, fake):
    datasets = fake()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="the download failed, (NotADirectoryError|FileExistsError)"):
        ask(tmp_path / "file")
    assert datasets.calls == []


def test_a_second_process_finds_what_the_first_downloaded(tmp_path, fake, monkeypatch):
    datasets = fake()
    answers = iter([[tmp_path / "a"], [], []])
    monkeypatch.setattr(_torchvision, "missing", lambda files: next(answers))
    ask(tmp_path)
    assert datasets.calls == []


def test_the_real_torchvision_without_a_network(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    files = [tmp_path / "cifar-10-batches-py" / "test_batch"]
    with pytest.raises(ConfigError, match="the download failed, .*Name or service not known"):
        ensure("cifar10", files, root=tmp_path, class_name="CIFAR10", splits=[{}], download=True)
