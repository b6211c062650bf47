"""Optimizers under which a rule is another one: said before the run, and not refused."""

import logging

import pytest
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.resolve import resolve

MEMORY = {"rule": {"name": "am_mem"}, "model": {"name": "half_mlp", "width": [12, 12], "norm": "none"}}
ALTERNATING = {"rule": {"name": "am"}, "model": {"name": "half_mlp", "width": [12, 12]}}
DIFFERENCE = (
    "the rule am_mem under this optimizer: the weights are not those that were solved for (given: optimizer.{}, "
    "expected: optimizer.name = sgd without momentum and weight decay). Change it, with optimizer.lr = 1."
)
MEANS = (
    "the rule am under this optimizer: means over features leave next to no gradient below the top (given: "
    "rule.reduction = auto with optimizer.name = sgd, expected: features). Set rule.reduction."
)


@pytest.mark.parametrize(
    ("changes", "optimizer", "text"),
    [
        (MEMORY, {"name": "sgd", "lr": 0.5}, None),
        (MEMORY, {"name": "adam"}, DIFFERENCE.format("name = adam")),
        (MEMORY, {"name": "sgd", "momentum": 0.9}, DIFFERENCE.format("momentum = 0.9")),
        (MEMORY, {"name": "sgd", "weight_decay": 0.01}, DIFFERENCE.format("weight_decay = 0.01")),
        (ALTERNATING, {"name": "adam"}, None),
        (ALTERNATING, {"name": "sgd", "momentum": 0.9}, MEANS),
        (merged(ALTERNATING, {"rule": {"reduction": "features"}}), {"name": "sgd"}, None),
        (merged(ALTERNATING, {"rule": {"reduction": "mean"}}), {"name": "sgd"}, MEANS.replace("= auto", "= mean")),
        (merged(ALTERNATING, {"model": {"width": [12, 12, 12]}}), {"name": "sgd"}, None),
    ],
)
def test_an_optimizer_that_undoes_the_rule_is_said_once(tmp_path, caplog, changes, optimizer, text):
    table = merged(merged(SMALL, changes), {"optimizer": {"lr": 0.1, **optimizer}})
    table["optimizer"].pop("milestones", None)
    with caplog.at_level(logging.WARNING):
        resolve(Config.from_dict(table), tmp_path)
    assert [record.getMessage() for record in caplog.records] == [text] * (text is not None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "rprop", "milestones": [3, 5]}, "milestones"), ({"name": "rprop", "milestones": []}, None),
        ({"name": "rprop", "milestones": [], "course": "cosine", "warmup_steps": 2},
         "course and optimizer.warmup_steps"),
        ({"name": "adam", "milestones": [], "course": "cosine", "blocks": {"0": {"name": "rprop"}}}, "course"),
        ({"name": "adam", "milestones": [3], "course": "cosine"}, None),
    ],
)
def test_courses_that_change_nothing_are_said(tmp_path, caplog, given, said):
    table = merged(SMALL, {"optimizer": {"lr": 0.01, **given}})
    with caplog.at_level(logging.WARNING):
        resolve(Config.from_dict(table), tmp_path)
    text = f"rprop asks for the learning rate at its first step alone: optimizer.{said} changes nothing under it."
    assert [record.getMessage() for record in caplog.records] == [text] * (said is not None)
