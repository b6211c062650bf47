"""The folder of a run's files: one run each."""

import errno

import pytest

from pipeline.errors import ConfigError
from workers.host import out_folder
from workers.host.out_folder import check_out, claimed, new_out_folder


def test_of_two_runs_at_once_one_gets_the_folder(tmp_path):
    out = tmp_path / "run"
    with claimed(out, is_new=True):
        with pytest.raises(ConfigError, match=r"another run writes to the output folder .*wait for that run"):
            with claimed(out, is_new=True):
                raise AssertionError("two runs have it")
    with claimed(out, is_new=True):  # nothing came into it
        (out / "result.json").touch()
    with pytest.raises(ConfigError, match="the output folder is taken"), claimed(out, is_new=True):
        raise AssertionError("it is not new")
    with claimed(out, is_new=False):
        assert (out / "result.json").exists()


def test_a_folder_that_cannot_be_claimed_is_used_all_the_same(tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(out_folder.fcntl, "flock", cannot)
    with claimed(tmp_path / "run", is_new=True):
        assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("name", ["file/run", "file", "y" * 300])
def test_a_folder_that_cannot_be_made(tmp_path, name):
    (tmp_path / "file").touch()
    for action in (lambda: claimed(tmp_path / name, is_new=False).__enter__(), lambda: check_out(tmp_path / name)):
        try:
            action()
        except ConfigError as error:
            assert "Choose another --out" in str(error)
        else:
            assert name == "file/run"  # there is nothing there yet, which a look alone does not refuse


def test_default_names_get_a_number(tmp_path):
    wanted = tmp_path / "runs" / "digits-1"
    with new_out_folder(wanted) as first, new_out_folder(wanted) as second:
        assert (first, second) == (wanted, tmp_path / "runs" / "digits-1-2")
        (first / "result.json").touch()
    assert [p.name for p in wanted.parent.iterdir()] == ["digits-1"]  # an empty one goes again
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Choose another --out"), new_out_folder(tmp_path / "file" / "digits"):
        raise AssertionError("it was made in a file")
