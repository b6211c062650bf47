"""What ranks that torchrun has started again take up: the run that this job has begun, and no other one."""

import json

import pytest
from tests.support.runs import SMALL, merged, run
from torch.distributed import HashStore

from pipeline.config import Config
from pipeline.errors import ConfigError
from workers import ranks as module
from workers.placement import this_host
from workers.ranks import Ranks, remember_folder, take_up
from workers.resume import open_origin
from workers.run import open_session
from workers.run_plan import plan_run

RANK_0 = Ranks(rank=0, num_ranks=2, ranks_here=2, local_rank=0)
TINY = {"model": {"depth": 1, "width": 4}, "train": {"epochs": 1, "batch_size": 700}, "rule": {"name": "pred"}}


@pytest.fixture(autouse=True)
def _store(monkeypatch):
    """torchrun's."""
    store = HashStore()
    monkeypatch.setattr(module, "_agent_store", lambda ranks: store)
    module._begin_round.cache_clear()
    yield
    module._begin_round.cache_clear()


@pytest.fixture
def unfinished(tmp_path):
    """An earlier job's run, which has raised and can be resumed."""
    out = tmp_path / "run"
    run(out, TINY)
    (out / "result.json").unlink()
    rows = [row for row in (out / "record.jsonl").read_text().splitlines() if '"event": "result"' not in row]
    rows.append(json.dumps({"event": "failure", "status": "failed", "error": "an old mistake", "lost": False}))
    (out / "record.jsonl").write_text("\n".join([*rows, ""]))
    return out


def started(out, **kwargs):
    """What a start of torchrun's takes up."""
    module._begin_round.cache_clear()
    return take_up(RANK_0, out, **kwargs)


def test_a_folder_that_the_first_start_was_refused_is_refused_again(unfinished):
    before = (unfinished / "record.jsonl").read_bytes()
    for _ in range(3):
        origin = started(unfinished)
        with pytest.raises(ConfigError, match="the output folder is taken"):
            plan_run(Config.from_dict(merged(SMALL, TINY)), this_host(), unfinished, unfinished, origin=origin)
    assert (unfinished / "record.jsonl").read_bytes() == before


def test_a_resume_that_died_before_it_began_is_begun_again(unfinished):
    """The record still ends with how the run failed before."""
    assert [started(unfinished) for _ in range(2)] == [None, None]
    assert open_origin(unfinished).restarts == 0


@pytest.mark.parametrize("is_named", [True, False])
def test_the_run_that_this_job_has_begun_is_taken_up(tmp_path, is_named):
    out = tmp_path / "run"
    assert started(out) is None
    plan = plan_run(Config.from_dict(merged(SMALL, TINY)), this_host(), out, tmp_path)
    with open_session(plan, out, tmp_path, None, ()):
        remember_folder(RANK_0, out)
    assert [started(out if is_named else None).restarts for _ in range(2)] == [1, 2]


def test_what_this_job_has_raised_is_not_tried_again(unfinished):
    assert started(unfinished) is None
    remember_folder(RANK_0, unfinished)
    with pytest.raises(ConfigError, match="the run has raised and would raise again: an old mistake"):
        started(unfinished)


def test_a_folder_that_was_claimed_and_has_no_record_has_no_run(tmp_path):
    assert started(tmp_path) is None
    remember_folder(RANK_0, tmp_path)
    assert started(tmp_path) is None
