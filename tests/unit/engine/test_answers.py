"""Right answers to training samples: counted as they would be batch by batch, and undone as a batch is."""

import json

import pytest
import torch
from tests.support.resumes import TINY
from tests.support.runs import run

from pipeline.data.task import Classification
from pipeline.engine import answers
from pipeline.engine.answers import Answers

TASK = Classification(4)
MODELS = {
    "backprop": {}, "predsim": {}, "dfa": {}, "fa": {}, "dni": {}, "glob_sim": {},
    **{name: {"norm": "none", "activation": "tanh", "dropout": 0.0} for name in ("tp", "lra_fdbk", "ifa", "pc")},
    "reinforce": {"norm": "none", "activation": "bernoulli", "dropout": 0.0},
}  # fmt: skip


def batches(sizes):
    return [(torch.randn(n, 4), torch.randint(4, (n,))) for n in sizes]


def counting():
    return Answers(TASK.num_correct, torch.device("cpu"))


def right(some):
    return sum(int((x.argmax(1) == y).sum()) for x, y in some)


@pytest.mark.parametrize("num_batches", [1, 63, 64, 200])
def test_all_are_counted_however_many_wait(num_batches):
    found, given = counting(), batches([1 + k % 5 for k in range(num_batches)])
    for x, y in given:
        found.add(x, y)
    assert found.share() == right(given) / sum(len(y) for _, y in given) == found.share()


def test_few_wait_where_outputs_are_large(monkeypatch):
    monkeypatch.setattr(answers, "_MOST_NUMBERS", 40)
    found = counting()
    for x, y in batches([6, 6, 6]):
        found.add(x, y)
    assert len(found._scores) == 1  # the first two are counted


def test_nothing_was_asked():
    found = counting()
    assert found.share() is None and found.capture() == {}


def test_what_is_left_out_or_taken_back_counts_nothing():
    found, given = counting(), batches([5, 5, 5])
    found.add(*given[0])
    before = found.counted()
    found.add(*given[1])
    assert int(found.take_back(before)) == right(given[1:2])
    assert found.take_back(before) is None
    found.add(*given[2])
    found.back_to(before)
    assert found.share() == right(given[:1]) / 5
    found.add_counted(torch.tensor(3), 5)
    assert found.share() == (right(given[:1]) + 3) / 10


def test_going_on_from_a_snapshot():
    whole, first, second, given = counting(), counting(), counting(), batches([5, 3, 4])
    for x, y in given:
        whole.add(x, y)
    for x, y in given[:2]:
        first.add(x, y)
    second.restore(first.capture())
    second.add(*given[2])
    assert second.share() == whole.share()
    second.restore({})  # of a snapshot that has none
    assert second.share() == whole.share()


def rows_of(out):
    """Rows of the output block, and whether another one has training accuracies."""
    lines = map(json.loads, (out / "record.jsonl").read_text().splitlines())
    blocks = [b for line in lines if line["event"] == "epoch" for b in line["blocks"]]
    assert not any("train_accuracy" in b for b in blocks if b["block"] < 3)
    return [b["train_accuracy"] for b in blocks if b["block"] == 3]


@pytest.mark.parametrize("rule", MODELS)
def test_no_rule_writes_to_outputs_that_wait(tmp_path, monkeypatch, rule):
    """Counted at the end of the epoch as at once."""
    changes = {"rule": {"name": rule}, "model": MODELS[rule]}
    run(tmp_path / "late", changes, base=TINY)
    monkeypatch.setattr(answers, "_MOST_BATCHES", 1)
    run(tmp_path / "once", changes, base=TINY)
    late = rows_of(tmp_path / "late")
    assert late == rows_of(tmp_path / "once") and len(late) == 3 and all(0 <= share <= 1 for share in late)


def test_before_the_step_and_in_training_mode(tmp_path):
    """With no rate to speak of and without dropout the shares are the initial network's, epoch by epoch."""
    still = {"rule": {"name": "backprop"}, "optimizer": {"name": "sgd", "lr": 1e-30, "milestones": []},
             "model": {"dropout": 0.0, "norm": "none"}}  # fmt: skip
    one = run(tmp_path / "one", {**still, "train": {"batch_size": 52}}, base=TINY)
    run(tmp_path / "many", still, base=TINY)
    shares = rows_of(tmp_path / "many")
    assert shares == rows_of(tmp_path / "one") and len(set(shares)) == 1 and one["epochs"] == 3
