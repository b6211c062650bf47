"""Runs over several hosts, each a network namespace with a name, a disk and a cache of its own."""

import json
import re
import threading
import time
from pathlib import Path

import psutil
import pytest
from tests.support.command import ROOT, call
from tests.support.host_runs import PORT, by_master, ranks_on, result_of, said_by, torchrun_on
from tests.support.hosts import hosts, why_not

from pipeline.config import load_config
from pipeline.records.snapshots import Manifest, newest_snapshot, read_block
from workers.run import train

REASON = why_not()
pytestmark = [pytest.mark.distributed, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
full = pytest.mark.full
SMALL = [
    "model.depth=4", "model.width=32", "model.norm=none", "model.dropout=0.0", "model.activation=tanh",
    "dataset.name=digits", "train.epochs=2", "train.batch_size=100", "run.threads=1", "run.partition=parameters",
    "run.predict=false", "run.timeout_s=60",
]  # fmt: skip
STEPS = 15
"""In an epoch."""
LAYOUTS = {"2": [1, 1], "2-mixed": [2, 2], "2-uneven": [1, 3], "4": [1, 1, 1, 1], "4-mixed": [2, 1, 1, 1]}
RULES = {"linear_decoder": [], "pred": [], "backprop": [], "dfa": [], "lra_fdbk": [], "readout": ["rule.every=4"]}
"""With options. LOCAL twice, NEIGHBOUR, BROADCAST, SETTLE; LOCAL with a slow broadcast."""
USUAL = {("linear_decoder", "4-mixed"), ("backprop", "2-uneven"), ("dfa", "2-mixed"), ("lra_fdbk", "2-mixed"),
         ("readout", "2-mixed")}  # fmt: skip
DELAYS = ["chaos.delay_s=0.002", "chaos.delay=random"]
"""Of messages, inside hosts and between them; they never change the weights."""
NAMED_S = 10.0
"""Promised, from the moment on at which a host vanishes."""
ENDED_S = 10.0
"""Patience for the end of the processes that have named it: nothing is promised of a busy machine."""


def reference(tmp_path, *arguments):
    """The weights of the same run in this process."""
    overrides = [*SMALL, *arguments, "transport.name=inline", "run.stages=1"]
    config = load_config(ROOT / "configs" / "digits.toml", overrides).config
    return train(config, out=tmp_path / "one", data_root=tmp_path)["weights_sha256"]


def files_of(host):
    """What is on a host's disk, by name."""
    return {str(path.relative_to(host.disk)) for path in host.disk.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("rule", "layout"),
    [pytest.param(r, x, marks=[] if (r, x) in USUAL else full) for r in RULES for x in LAYOUTS],
)
def test_the_same_weights_on_any_hosts_each_with_its_own_disk(tmp_path, rule, layout):
    counts = LAYOUTS[layout]
    with hosts(len(counts)) as found:
        learning = [f"rule.name={rule}", *RULES[rule]]
        said = ranks_on(found, counts, tmp_path, "--quiet", "--trace", *SMALL, *learning, *DELAYS, "measure.every=1")
        assert [code for code, _ in said] == [0] * sum(counts), said
        result, home = result_of(found[0]), files_of(found[0])
        assert result["weights_sha256"] == reference(tmp_path, *learning)
        assert result["transport"] == ("mixed" if max(counts) > 1 else "process_group")
        trace = json.loads((found[0].disk / "run" / "trace.json").read_text(encoding="utf8"))
        assert trace["otherData"]["stages_missing"] == [] and len(trace["otherData"]["aligned_by"]) == sum(counts)
        where = re.compile(r"run/(snapshots/step-\d+|measurements/epoch-[12])/block-00[0-4]\.safetensors")
        assert len([name for name in home if where.fullmatch(name)]) == 3 * 5
        assert newest_snapshot(found[0].disk / "run") is not None  # every file is what the manifest says
        assert set().union(*(files_of(host) for host in found[1:])) == set()


def test_a_run_that_starts_from_another_one_which_rank_0s_host_alone_has(tmp_path):
    with hosts(2) as found:
        first = found[0].disk / "first"
        arguments = ["--transport", "inline", "--stages", 1, "--out", first, "--quiet", *SMALL, "train.epochs=1"]
        assert call(*arguments) == (0, "", "")
        said = ranks_on(found, [1, 1], tmp_path, "--quiet", *SMALL, "--init-from", first, "train.init_blocks=1-last")
        assert [code for code, _ in said] == [0, 0], said
        from_there = [f"train.init_from={first}", "train.init_blocks=1-last"]
        assert result_of(found[0])["weights_sha256"] == reference(tmp_path, *from_there)
        assert files_of(found[1]) == set()


def test_hosts_that_know_each_other_by_ipv6_alone(tmp_path):
    with hosts(2, ipv6=True) as found:
        said = ranks_on(found, [1, 2], tmp_path, "--quiet", *SMALL)
        assert [code for code, _ in said] == [0] * 3, said
        result = result_of(found[0])
        assert result["transport"] == "mixed" and result["weights_sha256"] == reference(tmp_path)


RENDEZVOUS = {
    "static": by_master,
    "c10d": lambda hosts, index: [
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].name}:{PORT}", "--local-addr", hosts[index].address],
}  # fmt: skip


@full
@pytest.mark.parametrize("rendezvous", RENDEZVOUS)
def test_torchrun_starts_all_hosts_again_after_a_rank_has_died_on_one(tmp_path, rendezvous):
    """On the other host no rank has died of its own: torchrun counts no restart there."""
    more = ["snapshot.every_steps=20", "train.epochs=120"]
    with hosts(2) as found:
        agents = torchrun_on(found, 2, "--quiet", *SMALL, *more, rendezvous=RENDEZVOUS[rendezvous], max_restarts=2)
        record = found[0].disk / "run" / "record.jsonl"
        wait_until(lambda: record.exists() and '"epoch"' in record.read_text(encoding="utf8"))
        ranks = [p for p in psutil.Process(agents[1].pid).children(recursive=True) if is_rank(p)]
        ranks[0].kill()
        said = [agent.communicate(timeout=240)[1] for agent in agents]
        assert [agent.returncode for agent in agents] == [0, 0], said
        result = result_of(found[0])
        assert result["restarts"] == 1 and result["weights_sha256"] == reference(tmp_path, *more)


def is_rank(process):
    """torchrun's own command has the file's name, too."""
    words = process.cmdline()
    return any(word.endswith("launch.py") for word in words) and "torch.distributed.run" not in words


def wait_until(happened, within=90.0):
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_hosts_whose_own_names_are_loopback_addresses(tmp_path, monkeypatch):
    """As an installer writes them to ``/etc/hosts``: the second rank of rank 0's host reaches rank 0 by ``lo``."""
    monkeypatch.setattr("tests.support.hosts.NETWORK", "192.168.77.")  # above 127: who of two connects depends on it
    with hosts(2) as found:
        for host in found:
            file = Path("/etc/netns") / host.namespace / "hosts"
            others = [line for line in file.read_text(encoding="utf8").splitlines() if host.name not in line]
            file.write_text("\n".join([f"127.0.1.1 {host.name}", *others, ""]), encoding="utf8")
        said = ranks_on(found, [2, 2], tmp_path, "--quiet", *SMALL, "run.timeout_s=20")
        assert [code for code, _ in said] == [0] * 4, said
        assert result_of(found[0])["weights_sha256"] == reference(tmp_path)


def put_in_the_way(run, folder):
    """Makes a folder where a file is to be, as soon as a run has begun: its own folder must be new."""
    deadline = time.monotonic() + 60.0
    while not (run / "config.toml").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    folder.mkdir(parents=True)


@pytest.mark.parametrize("last", [False, True], ids=["of a snapshot", "of the final weights"])
def test_a_block_that_rank_0s_disk_does_not_take(tmp_path, last):
    """The snapshot is let go; the final weights are all in the second place, where they are declared complete."""
    with hosts(2) as found:
        run = found[0].disk / "run"
        in_the_way = run / "snapshots" / f"step-{2 * STEPS if last else STEPS}" / "block-003.safetensors"
        thread = threading.Thread(target=put_in_the_way, args=(run, in_the_way))
        thread.start()
        said = ranks_on(found, [1, 1], tmp_path, *SMALL, f"snapshot.every_epochs={0 if last else 1}")
        thread.join(30.0)
        assert [code for code, _ in said] == [0, 0], said
        result = result_of(found[0])
        assert result["weights_sha256"] == reference(tmp_path)
        folder = Path(result.get("folder", run / "snapshots" / f"step-{2 * STEPS}"))
        manifest = Manifest.read(folder)
        for block, crc32 in manifest.files.items():
            read_block(folder, block, crc32)
        assert (folder.parent.parent == run) != last and len(manifest.files) == 5
        assert ("does not take the weights" in said[0][1]) == last, said
        assert ("a snapshot cannot be written, and training goes on" in said[0][1]) != last, said
        assert files_of(found[1]) == set()


def test_a_block_that_a_folder_of_all_hosts_does_not_take(tmp_path):
    """The stage's own second place is on another host than rank 0's: all blocks come together at rank 0's."""
    run = tmp_path / "shared" / "run"
    in_the_way = run / "snapshots" / f"step-{2 * STEPS}" / "block-003.safetensors"
    with hosts(2) as found:
        thread = threading.Thread(target=put_in_the_way, args=(run, in_the_way))
        thread.start()
        said = ranks_on(found, [1, 1], tmp_path, *SMALL, "snapshot.every_epochs=1", "--out", run)
        thread.join(30.0)
        assert [code for code, _ in said] == [0, 0], said
        result = json.loads((run / "result.json").read_text(encoding="utf8"))
        assert result["weights_sha256"] == reference(tmp_path)
        folder = Path(result["folder"])
        assert folder.is_relative_to(found[0].disk / "tmp") and newest_snapshot(run) is not None
        manifest = Manifest.read(folder)
        for block, crc32 in manifest.files.items():
            read_block(folder, block, crc32)
        assert len(manifest.files) == 5 and "does not take the weights" in said[0][1]
        assert files_of(found[1]) == set()


def test_a_run_goes_on_on_other_hosts_from_what_rank_0_has(tmp_path):
    with hosts(3) as found:
        assert {c for c, _ in ranks_on(found[:2], [1, 2], tmp_path, "--quiet", *SMALL, "train.epochs=1")} == {0}
        changed = ["--resume", found[0].disk / "run", "--allow-changes", "train.epochs=2"]
        said = ranks_on([found[0], found[2]], [2, 2], tmp_path, "--quiet", *changed, port=29501)
        assert [code for code, _ in said] == [0] * 4, said
        assert result_of(found[0])["weights_sha256"] == reference(tmp_path)
        assert files_of(found[1]) == files_of(found[2]) == set()


RANKS = {0: [0], 1: [1, 2], 2: [3]}


class Vanishing:
    """A run over hosts with 1, 2 and 1 stages, of which one vanishes while it trains and is named ``named``."""

    def __init__(self, tmp_path, victim, how, named):
        with hosts(3) as found:
            thread = threading.Thread(target=self._run, args=(found, tmp_path))
            thread.start()
            try:
                self._wait_for_an_epoch(found[0], thread)
                deadline = time.monotonic() + NAMED_S
                getattr(found[victim], how)()
                for index in {0, 1, 2} - {victim}:
                    while not any(named in said_by(found[index], rank) for rank in RANKS[index]):
                        assert time.monotonic() < deadline, f"{found[index].name} does not name the host that is gone"
                        time.sleep(0.05)
                deadline = time.monotonic() + ENDED_S
                for host in found:
                    while host.pids():
                        assert time.monotonic() < deadline, f"{host.name} goes on"
                        time.sleep(0.05)
            finally:
                for host in found:
                    host.kill()
                thread.join(30.0)

    def _run(self, found, tmp_path):
        self.said = ranks_on(found, [1, 2, 1], tmp_path, "--quiet", *SMALL, "train.epochs=100000", timeout=120.0)

    def _wait_for_an_epoch(self, host, thread):
        record, deadline = host.disk / "run" / "record.jsonl", time.monotonic() + 60.0
        while not (record.exists() and '"event": "epoch"' in record.read_text(encoding="utf8")):
            assert thread.is_alive() and time.monotonic() < deadline, "no epoch came to its end"
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "victim", "name", "beside"),
    [
        ("unplug", 1, "node1", "stages 1, 2"), ("kill", 1, "node1", "stages 1, 2"),
        pytest.param("unplug", 0, "node0", "stage 0", marks=full),
        pytest.param("kill", 0, "node0", "stage 0", marks=full),
        pytest.param("unplug", 2, "node2", "stage 3", marks=full),
    ],
)  # fmt: skip
def test_a_host_that_vanishes_is_named_on_every_other_one_and_all_ranks_end(tmp_path, how, victim, name, beside):
    named = f"host {name} ({beside})"
    run = Vanishing(tmp_path, victim, how, named)
    for index in {0, 1, 2} - {victim}:  # one of each other host says it, once
        text = "".join(run.said[rank][1] for rank in RANKS[index])
        assert text.count(named) == 1, run.said
        assert re.search(r"launch\.py: \[stage \d/4\] host", text)
    assert all(code not in (0, None) for code, _ in run.said)


@full
def test_what_the_documentation_says_starts_a_run_on_two_hosts(tmp_path):
    with hosts(2, 100e6) as found:
        started = torchrun_on(found, 2, "--quiet", *SMALL)
        said = [process.communicate(timeout=120) for process in started]
        assert [process.returncode for process in started] == [0, 0], said
        result = result_of(found[0])
        assert (result["transport"], result["num_stages"]) == ("mixed", 4)
        assert result["weights_sha256"] == reference(tmp_path)
        assert files_of(found[1]) == set()


def test_a_folder_that_rank_0_cannot_use_is_said_once_on_every_host(tmp_path):
    """Found before any rank has its job."""
    with hosts(2) as found:
        (found[0].disk / "run").mkdir()
        (found[0].disk / "run" / "record.jsonl").write_text("{}\n", encoding="utf8")
        said = ranks_on(found, [1, 2], tmp_path, "--quiet", *SMALL)
    assert [code for code, _ in said] == [2] * 3, said
    assert [text.count("launch.py: ") for _, text in said] == [1, 1, 0], said
    assert "thrown away" not in said[1][1] and "/node0/run" in said[1][1]


def test_what_rank_0_finds_before_the_ranks_have_met_is_said_once_on_every_host(tmp_path):
    with hosts(2) as found:
        said = ranks_on(found, [1, 2], tmp_path, "--quiet", "--resume", tmp_path / "none", *SMALL)
    assert [code for code, _ in said] == [2] * 3, said
    assert [text.count("launch.py: there is no run to resume (given: ") for _, text in said] == [1, 1, 0], said


def test_a_host_that_does_not_know_rank_0s_name_says_so(tmp_path):
    with hosts(2) as found:
        said = ranks_on(found[1:], [2], tmp_path, "--quiet", *SMALL, ranks=range(2, 4), leader="nowhere")
    assert [code for code, _ in said] == [2, 2]
    assert "launch.py: this host does not know the address of rank 0's host (given: MASTER_ADDR=nowhere on node1" in (
        said[0][1]
    )
    assert "launch.py" not in said[1][1]
