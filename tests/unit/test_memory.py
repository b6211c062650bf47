"""Memory that there is, and what is refused because it cannot fit."""

import pytest

from pipeline import memory
from pipeline.errors import ConfigError

GIB = 2**30


@pytest.fixture
def host(monkeypatch):
    class Free:
        available = 8 * GIB

    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: Free)


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


def test_without_a_control_group_it_is_the_hosts(host, tmp_path):
    assert memory.available_bytes(tmp_path, tmp_path / "none") == 8 * GIB


@pytest.mark.parametrize(("limit", "there"), [("max", 8 * GIB), (3 * GIB, 2 * GIB), (GIB, 0), (GIB // 2, 0)])
def test_a_control_group_allows_less(host, tmp_path, limit, there):
    own = tmp_path / "own"
    own.write_text("0::/user/session\n")
    group(tmp_path / "groups" / "user" / "session", memory__max=limit, memory__current=GIB)
    assert memory.available_bytes(tmp_path / "groups", own) == there


def test_groups_around_it_count_and_file_cache_is_free(host, tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/user/session\n")
    group(tmp_path / "groups" / "user" / "session", memory__max="max", memory__current=GIB)
    group(tmp_path / "groups" / "user", memory__max=4 * GIB, memory__current=3 * GIB,
          memory__stat=f"anon {GIB}\ninactive_file {2 * GIB}\n")  # fmt: skip
    assert memory.available_bytes(tmp_path / "groups", own) == 3 * GIB


def test_the_first_version_of_control_groups(host, tmp_path):
    own = tmp_path / "own"
    own.write_text("4:memory:/container\n3:cpu:/elsewhere\n")
    group(tmp_path / "groups" / "memory", memory__limit_in_bytes=5 * GIB, memory__usage_in_bytes=GIB)
    assert memory.available_bytes(tmp_path / "groups", own) == 4 * GIB


def test_what_fits_is_not_refused():
    memory.check_room({"for the data set": 10}, "", 10)


def test_what_does_not_fit_is_refused_with_figures():
    parts = {"for messages in flight": 3 * GIB, "for the data set": 400 * GIB, "for crumbs": 10}
    with pytest.raises(ConfigError) as caught:
        memory.check_room(parts, "Use less.", 2**20 * 12, "on cuda:0")
    assert str(caught.value) == (
        "this does not fit into memory (given: at least 403 GiB, of that 400 GiB for the data set; expected: at most "
        "12 MiB, what there is on cuda:0). Use less."
    )


def test_there_is_some_memory_here():
    assert memory.available_bytes() > 2**20
