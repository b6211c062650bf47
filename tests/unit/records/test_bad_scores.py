"""Losses of evaluations that are not finite end a run, or are told once; see also the text in test_errors."""

import json
import logging

import numpy as np
import pytest
from tests.support import runs
from tests.support.run_doubles import block_row

from pipeline.errors import NonFiniteError
from pipeline.records.bad_scores import BadScores
from pipeline.schedules.plan import BlockMode, Choice, Plan

RNG = np.random.default_rng(0)
PLAN = Plan(3, (BlockMode.TRAIN,) * 3, (3,) * 3)
TEST_PLAN = Plan(4, (BlockMode.FROZEN,) * 3, (4,) * 3, choice=Choice(1, 4, 1, scores_test=True))


def scored(*losses, split="test"):
    return [{**block_row(k), f"{split}_loss": loss} for k, loss in enumerate(losses)]


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_the_lowest_block_is_named(split, value):
    with pytest.raises(NonFiniteError) as caught:
        BadScores(stops=True).look(PLAN, scored(None, float(value), float("nan"), split=split), 39, "snapshots/step-9",
                                     goes_on=True)  # fmt: skip
    assert caught.value.row == {
        "block": 1, "epoch": 3, "step": 39, "since": 39, "what": f"{split}_loss", "name": "", "value": value,
        "last_good": "snapshots/step-9",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stops", "goes_on", "plan", "epoch"),
    [(False, True, PLAN, 3), (False, False, TEST_PLAN, 1), (True, False, TEST_PLAN, 1), (True, False, PLAN, 3)],
)
def test_it_is_told_once_where_it_is_not_to_stop_or_training_is_over(caplog, stops, goes_on, plan, epoch):
    look = BadScores(stops=stops)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            look.look(plan, scored(0.5, float("nan")), 39, None, goes_on=goes_on)
    (message,) = caplog.messages
    assert message.startswith(f"the test loss of block 1 is nan after epoch {epoch} (from 0)")


def test_finite_losses_and_none_are_fine(caplog):
    BadScores(stops=True).look(PLAN, scored(0.5, None, 1e300), 39, None, goes_on=True)
    assert caplog.messages == []


def config(tmp_path, bad, nonfinite):
    """A run on mapped arrays with nan in the samples of one split, which nobody has looked through."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation", "test") if bad == "validation" else ("train", "test"):
        x = RNG.normal(size=(40, 4)).astype(np.float32)
        x[7] = np.nan if split == bad else x[7]
        np.save(folder / f"x_{split}.npy", x)
        np.save(folder / f"y_{split}.npy", np.arange(40) % 3)
    return {
        "dataset": {"name": "mapped", "path": str(folder)}, "model": {"name": "mlp", "depth": 1, "width": 8},
        "rule": {"name": "pred"}, "train": {"epochs": 2, "batch_size": 10, "nonfinite": nonfinite},
    }  # fmt: skip


@pytest.mark.parametrize("bad", ["test", "validation"])
@pytest.mark.parametrize("stages", [1, 2])
def test_a_run_ends_at_the_first_evaluation(tmp_path, bad, stages):
    with pytest.raises(NonFiniteError, match=f"the {bad} loss of block 0 is nan after epoch 0 .* in the {bad} samples"):
        runs.run(tmp_path / "run", {**config(tmp_path, bad, "stop"), "run": {"stages": stages}})
    table = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (table["status"], table["what"], table["epoch"], table["step"]) == ("failed", f"{bad}_loss", 0, 3)


@pytest.mark.parametrize("nonfinite", ["skip", "ignore"])
@pytest.mark.parametrize("bad", ["test", "validation"])
def test_a_run_goes_on_and_says_so(tmp_path, caplog, bad, nonfinite):
    table = runs.run(tmp_path / "run", config(tmp_path, bad, nonfinite))
    assert table["status"] == "completed" and table["epochs"] == 2
    told = [message for message in caplog.messages if f"the {bad} loss of block 0 is nan after epoch 0" in message]
    assert len(told) == 1


@pytest.mark.parametrize("bad", ["test", "validation"])
def test_what_is_learned_is_kept_where_the_last_evaluation_alone_is_not_finite(tmp_path, caplog, bad):
    """Nothing trains behind it, so there is nothing to stop."""
    changes = config(tmp_path, bad, "stop")
    changes["train"]["eval_every"] = 2
    table = runs.run(tmp_path / "run", changes)
    assert table["status"] == "completed" and (tmp_path / "run" / "snapshots").exists()
    assert sum(f"the {bad} loss of block" in message for message in caplog.messages) == 1
