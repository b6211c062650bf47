"""A run in processes that leaves the finite numbers ends with one message, no traceback, and the same place named."""

import json

import pytest
from tests.support.command import call, launch

pytestmark = pytest.mark.distributed
FAR = ["--quiet", "optimizer.name=sgd", "optimizer.lr=1e30", "run.threads=1", "run.predict=false", "train.epochs=200"]


def ended(out):
    table = json.loads((out / "result.json").read_text())
    assert table["status"] == "failed"
    return table


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """What one stage in this process says."""
    out = tmp_path_factory.mktemp("inline") / "run"
    code, _, err = call(*FAR, "--out", out, "--transport", "inline", "--stages", "1")
    assert code == 1 and err == f"launch.py: {ended(out)['error']}\n"
    return ended(out)


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_processes(tmp_path, inline, transport):
    code, _, err = call(*FAR, "--out", tmp_path / "run", "--transport", transport, "--stages", "3")
    assert (code, err) == (1, f"launch.py: {inline['error']}\n")
    assert ended(tmp_path / "run") == inline


@pytest.mark.full
def test_ranks(tmp_path, inline):
    code, _, err = launch(*FAR, "--out", tmp_path / "run", ranks=2)
    assert code == 1 and err.count(f"launch.py: {inline['error']}\n") == 1
    assert ended(tmp_path / "run") == inline


def test_a_number_that_breaks_in_mid_epoch_does_not_wait_for_its_end(tmp_path):
    """An epoch that would take an hour, and a loss that is nan in its second step."""
    long = ["dataset.name=noise", "dataset.num_train=200000", "train.batch_size=2", "dataset.num_test=1"]
    code, _, err = call(*FAR, *long, "--out", tmp_path / "run", "--stages", "2")
    assert code == 1 and "Traceback" not in err
    assert ended(tmp_path / "run")["epoch"] == 0
    rows = [json.loads(line)["event"] for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert rows == ["header", "failure"]
