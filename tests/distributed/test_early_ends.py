"""Mistakes that a rank finds before the ranks have met, with torchrun's agents of two hosts on a loopback address."""

import os
import socket
import subprocess

import pytest
from tests.support.command import ROOT, TORCHRUN, finish

pytestmark = pytest.mark.distributed
full = pytest.mark.full
KEY = "a secret of these tests, and of nobody else"


def free_port():
    """One that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def said_on_two_hosts(*commands, ranks=1):
    """What torchrun ends with on each host, given the arguments of ``launch.py`` there: status, and standard error."""
    port = free_port()
    started = [
        subprocess.Popen(
            [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", str(ranks), "--node-rank", str(node), "--master-addr",
             "127.0.0.1", "--master-port", str(port), str(ROOT / "launch.py"), *map(str, arguments)],
            cwd=ROOT, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "ONWARD_KEY": KEY, "OMP_NUM_THREADS": "1"},
        )
        for node, arguments in enumerate(commands)
    ]  # fmt: skip
    return [(code, err) for code, _, err in (finish(agent) for agent in started)]


def check(said, text, hosts=1):
    """The first rank of each torchrun has ended with status 2, and one says why: the system counts as one host."""
    for code, err in said:
        assert code == 1 and "exitcode  : 2 " in err and f'File "{ROOT}/launch.py"' not in err, said
    lines = [line for _, err in said for line in err.splitlines() if line.startswith("launch.py: ")]
    assert len(lines) == hosts and all(text in line for line in lines), said


def test_a_run_that_cannot_be_resumed(tmp_path):
    resume = ["--resume", tmp_path / "none"]
    check(said_on_two_hosts(resume, resume), f"there is no run to resume (given: --resume {tmp_path}/none, expected: ")


@full
def test_a_record_that_rank_0_cannot_read(tmp_path):
    """Found behind the config, which is read before torch is."""
    (tmp_path / "config.toml").write_text("seed = 1\n")
    resume = ["--resume", tmp_path]
    check(said_on_two_hosts(resume, resume, ranks=2), f"there is no run to resume (given: {tmp_path}, expected: ")


@full
def test_ranks_that_find_the_same_mistake_do_not_wait_for_each_other(tmp_path):
    wrong = ["--out", tmp_path / "run", "train.epoch=1"]
    check(said_on_two_hosts(wrong, wrong), "train.epoch", hosts=2)


@full
@pytest.mark.parametrize("wrong", ["train.epoch=1", "--epoch"], ids=["key", "flag"])
def test_a_mistake_of_rank_0_alone(tmp_path, wrong):
    right = ["--out", tmp_path / "run"]
    check(said_on_two_hosts([*right, wrong], right), "epoch")


@full
def test_a_mistake_of_another_rank(tmp_path):
    right = ["--out", tmp_path / "run", "run.predict=false", "run.partition=parameters"]
    check(said_on_two_hosts(right, [*right, "train.epoch=1"]), "train.epoch", hosts=2)
