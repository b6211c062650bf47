"""Right answers to training samples: counted as they would be batch by batch, and undone as a batch is."""

import json

import pytest
import torch
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import merged, run

from pipeline.data.task import Classification
from pipeline.engine import answers
from pipeline.engine.answers import Answers
from pipeline.engine.message import TensorSpec
from workers.transports._packing import unpack

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
    assert counting().share() is None


def test_labels_that_wait_do_not_hold_the_message_they_came_in():
    found = counting()
    buffer = torch.zeros(4096, dtype=torch.uint8)
    wide, y = unpack((TensorSpec((3, 4), torch.float32), TensorSpec((3,), torch.int64)), buffer)
    for _ in range(3):
        found.add(wide, y)
    waiting = [*found._scores, *found._labels]
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in waiting)
    own, found = torch.zeros(3, dtype=torch.int64), counting()
    found.add(torch.zeros(3, 4), own)
    assert found._labels[0] is own  # nothing is copied in vain


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


def test_going_on_from_a_snapshot_that_has_no_counts():
    """A share of the rest of an epoch is not that of the epoch; nor is it after a second cut."""
    found, (given,) = counting(), batches([5])
    found.restore({})
    found.add(*given)
    again = counting()
    again.restore(found.capture())
    again.add(*given)
    assert found.share() is None and again.share() is None


def test_going_on_from_a_snapshot_before_which_all_were_left_out():
    found, (given,) = counting(), batches([5])
    found.restore(counting().capture())
    found.add(*given)
    assert found.share() == right([given]) / 5


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


@pytest.mark.parametrize("placed", [
    {"run": {"stages": 3}, "transport": {"name": "process_group"}},
    {"run": {"stages": 2, "replicas": [1, 2]}, "transport": {"name": "shared_memory"}},
    {"run": {"stages": 1, "replicas": [2]}, "train": {"nonfinite": "skip"}},
], ids=["stages", "replicas", "skip"])  # fmt: skip
def test_the_same_wherever_the_blocks_are_and_in_parts(tmp_path, placed):
    changes = {"rule": {"name": "dfa"}, "train": {"microbatches": 2}}
    run(tmp_path / "one", changes, base=TINY)
    run(tmp_path / "placed", merged(changes, placed), base=TINY)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "placed")


def test_a_run_that_is_taken_up_inside_an_epoch_has_the_whole_epochs_share(tmp_path):
    each = {"rule": {"name": "dfa"}, "snapshot": {"every_steps": 1}}
    written(tmp_path / "run", each)
    wanted = rows_of(tmp_path / "run")
    for cut in cuts_of(tmp_path / "run")[1:4]:
        resumed(tmp_path / "run", cut, tmp_path / cut.name, each)
        assert rows_of(tmp_path / cut.name)[-3:] == wanted
