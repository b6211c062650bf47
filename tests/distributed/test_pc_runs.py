"""Predictive coding over stages: the same weights wherever the blocks are, and those of backprop where it is that."""

import json
from functools import cache

import pytest
import torch
from tests.support.products import DIAGONAL, PLACES, rare
from tests.support.runs import LATE, run, sha

from pipeline.records.weights import latest_weights, load_blocks

pytestmark = pytest.mark.distributed
MODEL = {"norm": "none", "dropout": 0.0, "activation": "tanh"}
SGD = {"name": "sgd", "lr": 0.05, "milestones": []}
STRICT = {"name": "pc", "rounds": 4}
RULES = {"strict": STRICT, "fixed": {"name": "pc", "inference": "fixed", "rounds": 3, "rate": 0.5}}


def changes(rule, stages=1, transport="inline", **more):
    return {"rule": rule, "model": MODEL, "optimizer": SGD, "run": {"stages": stages},
            "transport": {"name": transport}, **more}  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of each rule from one stage in this process."""
    return cache(lambda rule: sha(tmp_path_factory.mktemp(rule) / "run", changes(RULES[rule])))


@pytest.mark.parametrize("place", rare(PLACES, but=DIAGONAL))
@pytest.mark.parametrize("rule", RULES)
def test_p1_any_number_of_stages_over_any_transport(tmp_path, reference, rule, place):
    assert sha(tmp_path / "run", changes(RULES[rule], *place)) == reference(rule)


@pytest.mark.parametrize("rule", rare(RULES, but=["strict"]))
def test_p2_stages_and_messages_slowed_at_random(tmp_path, reference, rule):
    assert sha(tmp_path / "run", {**changes(RULES[rule]), **LATE}) == reference(rule)


def test_micro_batches_are_the_batch(tmp_path):
    """Up to rounding: sums over samples are grouped otherwise."""
    run(tmp_path / "one", changes(STRICT))
    for stages, transport in ((1, "inline"), (2, "shared_memory")):
        run(tmp_path / transport, changes(STRICT, stages, transport, train={"microbatches": 4}))
        assert_weights_agree(tmp_path / transport, tmp_path / "one", 1e-4)


@pytest.mark.parametrize("stages", [1, 3, "blocks"])
def test_o_pc1_fixed_predictions_at_rate_1_are_backprop_for_a_whole_run(tmp_path, stages):
    """O-PC1: a whole run with fixed predictions at rate 1 has backpropagation's curve and learns its weights.

    In float32, where the error comes through more sums, so they agree to rounding alone.
    """
    exact = {"name": "pc", "inference": "fixed", "rounds": 4, "rate": 1.0}
    ours = run(tmp_path / "pc", changes(exact, stages))
    theirs = run(tmp_path / "backprop", changes({"name": "backprop"}))
    assert_weights_agree(tmp_path / "pc", tmp_path / "backprop", 1e-4)
    assert abs(ours["test"]["accuracy"] - theirs["test"]["accuracy"]) <= 0.01
    curves = [curve(tmp_path / name) for name in ("pc", "backprop")]
    assert len(curves[0]) > 1 and curves[0] == pytest.approx(curves[1], rel=1e-4)


def curve(folder):
    """The network's losses of every epoch, in training and on the test set."""
    rows = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    outputs = [block for row in rows if row["event"] == "epoch" for block in row["blocks"] if block["block"] == 4]
    return [loss for block in outputs for loss in (block["train_loss"], block["test_loss"])]


def assert_weights_agree(ours, theirs, tolerance):
    """Weights agree relative to the largest of a tensor."""
    states = zip(load_blocks(latest_weights(ours)), load_blocks(latest_weights(theirs)), strict=True)
    for mine, other in states:
        for name, tensor in other.items():
            torch.testing.assert_close(mine[name], tensor, rtol=0.0, atol=tolerance * tensor.abs().max().item())
