"""Disks that are really full: file systems of some hundred kilobytes, and the processes of a run."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.support.command import call, launch

from pipeline.records.weights import load_blocks

pytestmark = pytest.mark.distributed
QUICK = ["--quiet", "train.epochs=2", "run.threads=1", "run.predict=false", "run.partition=parameters"]


@pytest.fixture
def disk(tmp_path):
    """A function that makes a disk of so many kilobytes."""
    made = []

    def make(kilobytes):
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        try:
            mounted = subprocess.run(command, capture_output=True, timeout=20)
        except OSError as error:
            pytest.skip(f"needs the right to mount a file system ({error.strerror})")
        if mounted.returncode != 0:
            pytest.skip("needs the right to mount a file system")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """What the runs below would end with."""
    out = tmp_path_factory.mktemp("wanted") / "run"
    assert call(*QUICK, "--stages", "2", "--out", out)[0] == 0
    return result_of(out)["weights_sha256"]


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def check_rescued(out, rescue, wanted, err):
    table = result_of(out)
    assert table["status"] == "completed" and table["weights_sha256"] == wanted
    folder = Path(table["folder"])
    assert folder.is_relative_to(rescue) and len(load_blocks(folder)) == table["num_blocks"]
    assert err.count("\n") == 1 and "No space left on device" in err and table["folder"] in err


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_weights_that_do_not_fit_are_saved_elsewhere(tmp_path, disk, wanted, transport, capfd, caplog):
    out, rescue = disk(200) / "run", tmp_path / "rescue"
    more = ["--stages", "2", "--transport", transport, "--out", out]
    code, _, _ = call(*QUICK, *more, env={"ONWARD_RESCUE": str(rescue)})
    assert code == 0 and capfd.readouterr().err.count("Traceback") == 0
    check_rescued(out, rescue, wanted, "".join(f"{record.message}\n" for record in caplog.records))


def test_the_command_says_it_in_a_line(tmp_path, disk, wanted):
    out, rescue = disk(200) / "run", tmp_path / "rescue"
    code, _, err = launch(*QUICK[1:], "--stages", "2", "--out", out, env={"ONWARD_RESCUE": str(rescue)})
    assert code == 0
    check_rescued(out, rescue, wanted, err)


@pytest.mark.full
def test_no_room_anywhere_is_one_line_and_a_failed_run(tmp_path, disk):
    out, rescue = disk(200) / "run", disk(100)
    code, _, err = launch(*QUICK, "--stages", "2", "--out", out, env={"ONWARD_RESCUE": str(rescue)})
    assert code == 1 and err.count("\n") == 1 and "the weights cannot be saved (given:" in err
    assert result_of(out)["status"] == "failed"


def test_a_cache_that_does_not_fit_is_switched_off_and_nobody_is_killed(tmp_path, disk):
    """Writing to the mapping of a file without room would end in SIGBUS."""
    more = ["--mode", "sequential", "--stages", "2", "schedule.cache=file"]
    assert call(*QUICK, *more, "--out", tmp_path / "run")[0] == 0
    out = disk(400) / "run"
    code, _, err = launch(*QUICK[1:], *more, "--out", out, env={"ONWARD_RESCUE": str(tmp_path / "rescue")})
    assert code == 0 and err.count("outputs of frozen blocks cannot be kept any more (No space left on device)") == 1
    assert result_of(out)["weights_sha256"] == result_of(tmp_path / "run")["weights_sha256"]


@pytest.mark.full
def test_a_record_that_does_not_fit(tmp_path, disk):
    """A disk of one page takes the config, and some rows."""
    out, rescue = disk(8) / "run", tmp_path / "rescue"
    code, _, err = launch(*QUICK[1:], "--stages", "2", "--out", out, env={"ONWARD_RESCUE": str(rescue)})
    (spare,) = rescue.iterdir()
    assert code == 0 and "Traceback" not in err and err.count("\n") <= 5
    whole = (out / "record.jsonl").read_bytes() + (spare / "record.jsonl").read_bytes()
    events = [json.loads(line)["event"] for line in whole.splitlines()]
    assert events == ["header", *["epoch"] * 4, "result"]
