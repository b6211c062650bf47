"""Rank 0's lines and the stages of other hosts, with real sockets: what they are sent, and what they are told."""

import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.support.freight_lines import blocks_in, result_in
from torch.distributed import HashStore

from pipeline.errors import ConfigError, WorkerFailed
from pipeline.mixture.initial import InitialBlocks
from pipeline.pickles import trusted
from pipeline.records.snapshots import Manifest
from pipeline.schedules.cuts import Cut
from pipeline.schedules.replicas import Replicas
from workers import messages, rank_lines, torchrun
from workers import visit as visiting
from workers.away import settled, use_line
from workers.host.identity import ProcessIdentity
from workers.host.resources import gpu_names
from workers.hosts import StageHosts
from workers.job import Job, StartPoint
from workers.rank_lines import RankLines
from workers.rescue_courier import RescueCourier
from workers.run_key import given_key
from workers.transport import Endpoint
from workers.visit import visit

OWN = ProcessIdentity.own()
ELSEWHERE = ProcessIdentity("node1 another-boot pid:[1]", 7, 7)


@dataclass(frozen=True)
class Resolved:
    """What of a run these lines look at."""

    initial: InitialBlocks | None = None


class Ranks:
    """Rank 0 and two ranks, the second and third of which are on another host."""

    def __init__(self, monkeypatch, tmp_path, num_ranks=3, timeout_s=20.0, made=lambda ranks: None):
        monkeypatch.setenv("ONWARD_KEY", "a secret of this test alone")
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        visitor = SimpleNamespace(own=lambda: ELSEWHERE, from_table=ProcessIdentity.from_table)
        monkeypatch.setattr(visiting, "ProcessIdentity", visitor)
        monkeypatch.setattr(rank_lines, "use_interface", lambda address: self.used.append(address))
        self.used, self.store, self.tmp_path = [], HashStore(), tmp_path
        self.far, self.freight = {}, {}
        self.num_ranks = num_ranks
        self.come = threading.Thread(target=self._come)
        self.come.start()
        made(self)
        self.lines = RankLines(self.store, num_ranks, timeout_s, alone=False)
        self.come.join(20.0)

    def _come(self):
        about = json.loads(self.store.get("control"))
        key = given_key(alone=False)
        for rank in (1, 2):
            told = {"local_rank": rank - 1, "folder": f"{self.tmp_path}/sockets" if rank == 1 else None}
            told["gpus"] = ["0", "1"][:rank]
            self.freight[rank] = visit(about["host"], about["port"], key, rank, self.num_ranks, {"freight": True})
            self.far[rank] = visit(about["host"], about["port"], key, rank, self.num_ranks, told)

    def jobs(self, out):
        return [
            Job(
                Resolved(), (), (range(0, 1), range(1, 2), range(2, 3)), "t",
                Endpoint(s, 3, (), "/rank0/sockets", 1.0, "cpu"), 1, False, Path("data"), out, out / "spare",
            )
            for s in range(3)
        ]  # fmt: skip

    def received(self, rank):
        """What rank 0 has sent a rank with its job."""
        assert self.far[rank].connection.poll(20.0)
        return trusted(self.far[rank].receive())

    def close(self):
        for line in (*self.far.values(), *self.freight.values()):
            line.connection.close()


@pytest.fixture
def ranks(monkeypatch, tmp_path):
    (tmp_path / "out").mkdir()
    found = Ranks(monkeypatch, tmp_path)
    yield found
    found.close()


def test_hosts_are_what_the_ranks_have_said(ranks):
    assert ranks.lines.hosts == StageHosts((0, 1, 1), (OWN.kernel.partition(" ")[0], "node1"))
    assert ranks.lines.local_ranks == (0, 0, 1)
    assert ranks.lines.gpus == (gpu_names(), ("0",), ("0", "1"))
    assert ranks.used == ["127.0.0.1"] and ranks.lines.hosts.address == "127.0.0.1"


@pytest.mark.parametrize(("leader", "expected"), [(OWN, "10.77.0.1"), (ELSEWHERE, "10.77.0.2")])
def test_gloo_uses_the_network_between_the_hosts(monkeypatch, leader, expected):
    """The second rank of rank 0's host may reach it by a loopback address."""
    used = []
    monkeypatch.setattr("workers.away.use_interface", used.append)
    line = SimpleNamespace(address="10.77.0.2")
    use_line(line, StageHosts((0, 0, 1), ("node0", "node1"), "10.77.0.1"), leader)
    use_line(line, StageHosts((0, 0, 0), ("node0",)), leader)
    assert used == [expected]


def test_every_stage_has_the_folder_of_its_host_and_knows_the_runs_own(ranks, tmp_path):
    with ranks.lines as lines:
        own = lines.share_out(ranks.jobs(tmp_path / "out"))
        assert own.endpoint.folder == "/rank0/sockets" and own.endpoint.hosts == (0, 1, 1) and own.shares_out
        for rank in (1, 2):
            leader, hosts, job = ranks.received(rank)
            assert (leader, hosts) == (OWN, lines.hosts)
            assert job.endpoint.folder == f"{tmp_path}/sockets" and job.stage_index == rank
            assert job.shares_out  # this process can see the run's folder
            assert not job.__class__(**{**vars(job), "out": tmp_path / "elsewhere"}).shares_out
            assert not job.__class__(**{**vars(job), "mark": None}).shares_out
        ranks.close()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (WorkerFailed(1, 3, "it is gone"), "[stage 1/3] it is gone", 1),
        (ConfigError("no such rule"), "no such rule", 2),
        (KeyboardInterrupt(), "interrupted", 1),
    ],
)
@pytest.mark.parametrize("when", ["before the jobs", "after"])
def test_other_hosts_are_told_why_the_run_ends(ranks, tmp_path, error, text, code, when):
    with pytest.raises(type(error)), ranks.lines:
        if when == "after":
            ranks.lines.share_out(ranks.jobs(tmp_path / "out"))
        raise error
    for rank in (1, 2):
        assert (ranks.received(rank)[2] is None) == (when == "before the jobs")  # a rank waits for something sealed
        assert ranks.far[rank].connection.poll(20.0)
        assert messages.receive(ranks.far[rank].connection) == ("verdict", {"text": text, "code": code})


def test_a_process_that_gives_up_leaves_no_mark(ranks, tmp_path):
    ranks.lines.share_out(ranks.jobs(tmp_path / "out"))
    assert [path.name[:5] for path in (tmp_path / "out").iterdir()] == [".run-"]
    ranks.lines.tell(WorkerFailed(1, 3, "it is gone"))  # and ends at once
    assert list((tmp_path / "out").iterdir()) == []


def test_ranks_that_have_come_hear_that_another_one_has_not(ranks, tmp_path, monkeypatch):
    with pytest.raises(WorkerFailed, match="it did not come to rank 0 within 1 s"):
        Ranks(monkeypatch, tmp_path, num_ranks=5, timeout_s=1.0, made=(others := []).append)
    (found,) = others
    found.come.join(20.0)
    for rank in (1, 2):
        leader, hosts, job = found.received(rank)
        assert leader == OWN and job is None and hosts.first_beside(2) == 1
        topic, body = messages.receive(found.far[rank].connection)
        assert topic == "verdict" and "it did not come to rank 0 within 1 s" in body["text"] and body["code"] == 1
    found.close()


@pytest.mark.parametrize(("local_rank", "raised"), [(0, WorkerFailed), (1, SystemExit)])
def test_a_rank_0_that_ends_before_it_gives_out_jobs_is_named_once_on_each_other_host(ranks, local_rank, raised):
    ranks.lines.all[2].close()
    with pytest.raises(raised) as found:
        torchrun._do_job(torchrun.Ranks(2, 3, 2, local_rank), None, ranks.far[2], None, Path("out"))
    if raised is WorkerFailed:
        assert str(found.value).startswith("[stage 0/3] it ended before it gave out the jobs: ")


# On the other host ----------------------------------------------------------------------------------------------


def away(ranks, tmp_path, start=None, replicas=None, initial=None):
    """The job of rank 2, on a disk of its own."""
    jobs = [replace(job, resolved=Resolved(initial)) for job in ranks.jobs(tmp_path / "out")]
    job = ranks.lines.share_out(jobs)
    _, _, job = ranks.received(2)
    return Job(**{**vars(job), "mark": None, "start": start, "replicas": replicas})


def test_a_stage_elsewhere_writes_beside_what_the_user_keeps_there(ranks, tmp_path):
    with settled(away(ranks, tmp_path), ranks.freight[2], tmp_path / "there", None) as (job, courier):
        assert job.out.parent == tmp_path / "there" and job.out.name == "stage-2-sockets"
        job.out.mkdir(parents=True)
        (job.out / "trace-stage-2.part").write_bytes(b"kept")
        courier.post(job.out / "trace-stage-2.part")
    assert (tmp_path / "out" / "trace-stage-2.part").read_bytes() == b"kept"
    assert not (tmp_path / "there").exists()


def test_replicas_of_a_stage_have_a_folder_each(ranks, tmp_path):
    sent = away(ranks, tmp_path, replicas=Replicas((1, 2)))
    with settled(sent, ranks.freight[2], tmp_path / "there", None) as (job, _):
        assert (job.stage_index, job.process) == (1, 2) and job.out.name == "stage-2-sockets"


def test_a_stage_that_shares_the_folder_brings_only_what_that_refuses(ranks, tmp_path):
    ranks.lines.share_out(ranks.jobs(tmp_path / "out"))
    _, _, sent = ranks.received(2)
    with settled(sent, ranks.freight[2], tmp_path / "there", None) as (job, courier):
        assert job.out == sent.out and job.spare != sent.spare and isinstance(courier, RescueCourier)
        folder = job.spare / "snapshots" / "step-40"
        (path,) = blocks_in(folder, 2)
        data, result = path.read_bytes(), result_in(folder, 2)
        courier.bring_result(result, lambda: None)
    there = sent.spare / "snapshots" / "step-40"
    assert result["folder"] == str(there) and (there / path.name).read_bytes() == data
    assert not job.spare.exists() and not (tmp_path / "there").exists() and ranks.freight[2].connection.closed


@pytest.mark.parametrize(("own", "expected"), [(Path("/own/data"), Path("/own/data")), (None, Path("data"))])
@pytest.mark.parametrize("mark", ["shared", None])
def test_a_stage_elsewhere_reads_data_where_its_own_host_says(ranks, tmp_path, own, expected, mark):
    """A replica of the first stage; where its host says nothing, they are where rank 0's are."""
    if mark is not None:
        (tmp_path / "out" / mark).touch()
    sent = replace(away(ranks, tmp_path), mark=mark)
    with settled(sent, ranks.freight[2], tmp_path / "there", None, own) as (job, _):
        assert job.data_root == expected and job.shares_out == (mark is not None)


def test_a_stage_on_rank_0s_host_needs_no_courier(ranks, tmp_path):
    job = replace(ranks.jobs(tmp_path / "out")[1], endpoint=Endpoint(1, 3, (), "/rank0", 1.0, "cpu", hosts=(0, 0, 1)))
    with settled(job, ranks.freight[1], tmp_path / "there", None, Path("/own/data")) as (found, courier):
        assert found is job and courier is None and ranks.freight[1].connection.closed


def test_a_stage_fetches_the_state_that_it_goes_on_from(ranks, tmp_path):
    folder = tmp_path / "out" / "snapshots" / "step-7"
    folder.mkdir(parents=True)
    (folder / "block-002.safetensors").write_bytes(b"state")
    start = StartPoint(folder, Manifest(Cut(1), 7, {}))
    with settled(away(ranks, tmp_path, start), ranks.freight[2], tmp_path / "there", None) as (job, _):
        assert (job.start.folder / "block-002.safetensors").read_bytes() == b"state"
        assert str(job.start.folder).startswith(f"{tmp_path}/there/")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("blocks", [(0, 2), (0, 1)])
def test_a_stage_fetches_the_blocks_of_another_run_that_it_starts_from(ranks, tmp_path, blocks):
    """Its own ones, which may be none."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "block-002.safetensors").write_bytes(b"weights")
    initial = InitialBlocks("first", tmp_path / "first", dict.fromkeys(blocks, 7), "a digest")
    with settled(away(ranks, tmp_path, initial=initial), ranks.freight[2], tmp_path / "there", None) as (job, courier):
        found = job.resolved.initial
        assert found == replace(initial, folder=found.folder)
        assert str(found.folder).startswith(f"{tmp_path}/there/")
        if 2 in blocks:
            assert (found.folder / "block-002.safetensors").read_bytes() == b"weights"
        courier.drop_start()
        assert not found.folder.exists()
    assert not (tmp_path / "there").exists()


def test_blocks_of_another_run_that_cannot_be_fetched(ranks, tmp_path):
    initial = InitialBlocks("first", tmp_path / "first", {2: 7}, "a digest")
    link = SimpleNamespace(send=lambda topic, body: None)
    with pytest.raises(ConfigError, match="the run of --init-from cannot be brought to host .*No such file"):
        with settled(away(ranks, tmp_path, initial=initial), ranks.freight[2], tmp_path / "there", link):
            raise AssertionError("it began without its state")


@pytest.mark.parametrize("when", ["it has read it", "it fails"])
def test_the_state_that_was_fetched_does_not_stay(ranks, tmp_path, when):
    """A stage may end at any time by what rank 0 tells it, so the state goes as soon as it has been read."""
    folder = tmp_path / "out" / "snapshots" / "step-7"
    folder.mkdir(parents=True)
    (folder / "block-002.safetensors").write_bytes(b"state")
    start = StartPoint(folder, Manifest(Cut(1), 7, {}))
    with pytest.raises(RuntimeError):
        with settled(away(ranks, tmp_path, start), ranks.freight[2], tmp_path / "there", None) as (job, courier):
            if when == "it has read it":
                courier.drop_start()
                assert not job.start.folder.exists()
            raise RuntimeError("a stage fails")
    assert not (tmp_path / "there").exists()


def test_a_state_that_cannot_be_fetched_is_reported_and_raised(ranks, tmp_path, monkeypatch):
    monkeypatch.setattr("workers.away.platform.node", lambda: "node1")
    said = []
    link = SimpleNamespace(send=lambda topic, body: said.append((topic, body["kind"], body["stage"])))
    start = StartPoint(tmp_path / "out" / "snapshots" / "step-7", Manifest(Cut(1), 7, {}))
    text = r"the snapshot cannot be brought to host node1 \(given: --out .*/there, .*No such file.*Choose another --out"
    with pytest.raises(ConfigError, match=text):
        with settled(away(ranks, tmp_path, start), ranks.freight[2], tmp_path / "there", link):
            raise AssertionError("it began without its state")
    assert said == [("failed", "ConfigError", 2)]
