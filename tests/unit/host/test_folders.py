"""What dead processes have left is removed, and nothing else is."""

import json
import os
import stat
import subprocess
import sys
import tempfile

import pytest

from workers.host import folders as module
from workers.host.folders import new_folder, remove_orphans
from workers.host.identity import ProcessIdentity


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def dead():
    """The identity of a process that has ended."""
    code = "from workers.host.identity import ProcessIdentity; import json; "
    code += "print(json.dumps(ProcessIdentity.own().to_table()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def left(folder, name, owner):
    made = folder / name
    made.mkdir(mode=0o700)
    (made / "edge-0-1").write_bytes(b"")
    if owner is not None:
        (made / "owner.json").write_text(owner if isinstance(owner, str) else json.dumps(owner))
    return made


def test_a_new_folder_is_private_and_names_its_owner(temporary):
    folder = new_folder()
    assert folder.parent == temporary and folder.name.startswith("onward-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert json.loads((folder / "owner.json").read_text()) == ProcessIdentity.own().to_table()
    assert remove_orphans() == [] and folder.is_dir()


def test_folders_of_the_dead_are_removed(temporary, dead):
    orphans = {left(temporary, "onward-a", dead), left(temporary, "pymp-b", dead)}
    assert set(remove_orphans()) == orphans
    assert list(temporary.iterdir()) == []


def test_everything_else_stays(temporary, dead):
    own = ProcessIdentity.own().to_table()
    left(temporary, "onward-alive", own)
    left(temporary, "onward-elsewhere", {**dead, "kernel": "another host"})
    left(temporary, "onward-unsaid", None)
    left(temporary, "onward-broken", "{")
    left(temporary, "onward-forged", {**dead, "pid": "1"})
    left(temporary, "other-name", dead)
    (temporary / "onward-file").write_text("x")
    (temporary / "onward-link").symlink_to(left(temporary, "target", dead))
    os.mkfifo(left(temporary, "onward-pipe", None) / "owner.json")
    before = sorted(temporary.iterdir())
    assert remove_orphans() == [] and sorted(temporary.iterdir()) == before


def test_another_users_folder_stays(temporary, dead, monkeypatch):
    folder = left(temporary, "onward-a", dead)
    monkeypatch.setattr(module.os, "getuid", lambda: 4711)
    assert remove_orphans() == [] and folder.is_dir()


def test_a_used_id_is_no_owner(temporary):
    own = ProcessIdentity.own().to_table()
    folder = left(temporary, "onward-a", {**own, "started": own["started"] - 1})
    assert remove_orphans() == [folder]


def test_a_temporary_folder_that_cannot_be_listed_is_no_error(temporary, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))
    assert remove_orphans() == []
