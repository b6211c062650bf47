"""What a run says of losses, weights and buffers that are not finite, and what it leaves alone."""

import json

import pytest
from tests.support.poison import NUM_TRAIN
from tests.support.runs import run

from pipeline.errors import NonFiniteError
from workers import worker

SGD = {"name": "sgd", "lr": 0.1, "milestones": []}
STEPS = NUM_TRAIN // 10


def poison(model="masked", rule="pred", **changes):
    table = {
        "dataset": {"name": "tests.support.poison"}, "model": {"name": f"tests.support.poison.{model}"},
        "rule": {"name": rule}, "optimizer": SGD, "train": {"epochs": 3, "batch_size": 10},
    }  # fmt: skip
    return {**table, **{key: {**table.get(key, {}), **value} for key, value in changes.items()}}


def found(folder, changes):
    with pytest.raises(NonFiniteError) as caught:
        run(folder, changes)
    return caught.value


def test_buffers_that_are_infinite_from_the_start_are_meant_so(tmp_path):
    assert run(tmp_path / "run", poison())["status"] == "completed"


@pytest.mark.parametrize("stages", [1, 3])
def test_a_buffer_that_breaks_is_named_with_the_steps_it_may_have_broken_in(tmp_path, stages):
    error = found(tmp_path / "run", poison("broken_later", run={"stages": stages}))
    assert error.row == {
        "block": 1, "epoch": 1, "step": 2 * STEPS - 1, "since": STEPS, "what": "buffer",
        "name": "block.body.2.seen", "value": "inf", "last_good": None,
    }  # fmt: skip
    assert str(error) == (
        "the run has left the finite numbers: buffer block.body.2.seen of block 1 is inf after step 11, epoch 1, and "
        "has been since a step from 6 on (steps and epochs are counted from 0; no snapshot was taken "
        "before it). Lower optimizer.lr or the scale of the inputs; train.nonfinite=skip leaves out single batches."
    )


def test_inputs_of_1e30_break_the_variance_and_no_loss(tmp_path):
    """Batch normalisation makes usual numbers of them, and its running variance overflows."""
    bad = {"value": "1e30", "bad": list(range(NUM_TRAIN))}
    row = found(tmp_path / "run", poison(dataset=bad)).row
    assert (row["block"], row["what"], row["name"], row["epoch"]) == (0, "buffer", "block.body.1.running_var", 0)
    losses = [
        block["train_loss"] for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()
        for block in json.loads(line).get("blocks", ())
    ]  # fmt: skip
    assert len(losses) == 3 and None not in losses


def test_the_first_loss_is_found_however_late_the_look(tmp_path, monkeypatch):
    """A sample of nan: in the batch that it is in, at the lowest block."""
    changes = poison(dataset={"bad": [17]})
    late = found(tmp_path / "late", changes).row
    monkeypatch.setattr(worker, "PROGRESS_EVERY_S", 0.0)
    assert found(tmp_path / "soon", changes).row == late
    assert late["what"] == "loss" and late["block"] == 0 and 0 <= late["step"] == late["since"] < STEPS


def test_micro_batches_belong_to_their_step(tmp_path):
    plain = {"bad": [17]}
    whole = found(tmp_path / "whole", poison(dataset=plain)).row
    assert found(tmp_path / "parts", poison(dataset=plain, train={"microbatches": 3})).row == whole


def test_weights_that_break_in_the_last_step_are_found_before_they_are_saved(tmp_path):
    """One step in all: its loss is finite, and what it makes of the weights is not."""
    changes = poison(train={"epochs": 1, "batch_size": NUM_TRAIN}, optimizer={"lr": 1e30, "weight_decay": 1e15},
                     measure={"every": 1})  # fmt: skip
    row = found(tmp_path / "run", changes).row
    assert (row["step"], row["since"], row["what"], row["epoch"]) == (0, 0, "weight", 0) and row["block"] == 0
    assert list((tmp_path / "run").glob("*/*/manifest.json")) == []
    assert list((tmp_path / "run").glob("measurements/*/*")) == []


def test_ignored(tmp_path):
    table = run(tmp_path / "run", poison("broken_later", dataset={"bad": [17]}, train={"nonfinite": "ignore"}))
    assert table["status"] == "completed"


def test_sequential_names_the_block_in_training(tmp_path):
    changes = poison("broken_later", schedule={"mode": "sequential", "patience": 1}, train={"epochs": 2})
    for stages in (1, 3):
        row = found(tmp_path / str(stages), {**changes, "run": {"stages": stages}}).row
        assert row["block"] == 1 and row["what"] == "buffer"


def test_what_is_not_finite_is_no_snapshot(tmp_path):
    """The buffer breaks with the ninth batch: of the cuts after every third, the second is the last good one."""
    row = found(tmp_path / "run", poison("broken_later", snapshot={"every_steps": 3})).row
    assert (row["what"], row["step"], row["since"], row["epoch"]) == ("buffer", 8, 6, 1)
    assert row["last_good"] == "snapshots/step-6"
    kept = [path.parent.name for path in (tmp_path / "run").glob("snapshots/*/manifest.json")]
    assert "step-6" in kept and "step-9" not in kept


def test_a_finding_is_the_same_on_any_number_of_stages_with_snapshots_too(tmp_path):
    changes = poison("broken_later", snapshot={"every_steps": 3})
    rows = [found(tmp_path / str(n), {**changes, "run": {"stages": n}}).row for n in (1, 2, 3)]
    assert rows[0] == rows[1] == rows[2]
