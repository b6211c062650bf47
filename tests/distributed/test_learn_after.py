"""Learning block by block or stage by stage: the same weights, and what is held meanwhile."""

import pytest
from tests.support.runs import run

DROPPING = {"width": 24, "norm": "batch", "dropout": 0.3}
PLAIN = {"width": 24, "norm": "none", "dropout": 0.0, "activation": "relu"}


def result(tmp_path, name, rule, model, learn_after, stages=2, closed_form=True):
    changes = {
        "rule": rule, "model": model, "train": {"epochs": 2, "batch_size": 48},
        "run": {"stages": stages, "learn_after": learn_after, "closed_form": closed_form},
    }  # fmt: skip
    return run(tmp_path / name, changes)


@pytest.mark.parametrize("rule, model, closed_form", [
    ("linear_decoder", PLAIN, True), ("linear_decoder", PLAIN, False),
    ("linear_decoder", DROPPING, True), ("predsim", DROPPING, True), ("dfa", PLAIN, True),
])  # fmt: skip
def test_the_weights_are_the_same(tmp_path, rule, model, closed_form):
    block, stage = (
        result(tmp_path, after, {"name": rule}, {"depth": 4, **model}, after, closed_form=closed_form)
        for after in ("block", "stage")
    )
    assert block["weights_sha256"] == stage["weights_sha256"]


def test_closed_form_and_autograd_give_the_same_weights(tmp_path):
    model = {"depth": 4, **PLAIN}
    results = [
        result(tmp_path, f"{closed}-{after}", {"name": "linear_decoder"}, model, after, closed_form=closed)
        for closed in (True, False) for after in ("block", "stage")
    ]  # fmt: skip
    assert len({row["weights_sha256"] for row in results}) == 1


def test_a_rule_that_does_more_than_its_loss_is_asked_itself_on_any_stage(tmp_path):
    rule = {"name": "tests.support.louder_decoder"}
    found = {
        result(tmp_path, f"{after}-{stages}", rule, {"depth": 4, **PLAIN}, after, stages)["weights_sha256"]
        for after in ("block", "stage") for stages in (1, 2, 5)
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize("closed_form", [True, False])
def test_what_is_held_grows_with_the_depth_of_a_stage_only_where_the_stage_learns_as_a_whole(tmp_path, closed_form):
    rule = {"name": "linear_decoder"}
    results = {
        (after, depth): result(tmp_path, f"{after}-{depth}", rule, {"depth": depth, **PLAIN}, after, 1, closed_form)
        for after in ("block", "stage") for depth in (4, 16)
    }  # fmt: skip
    held = {key: row["stages"][0]["held_bytes"] for key, row in results.items()}
    assert held["block", 4] == held["block", 16] < held["stage", 4]
    hidden = 48 * 24 * 4  # bytes of one hidden activation of one batch
    assert held["stage", 16] - held["stage", 4] >= 12 * hidden
