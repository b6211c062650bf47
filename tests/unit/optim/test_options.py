"""The section ``[optimizer]``: what every optimizer has beside torch's options."""

import pytest

from pipeline.config.blocks import INHERITED
from pipeline.errors import ConfigError
from pipeline.optim.options import common_options, parse_optimizer
from pipeline.registry import defaults


def test_the_options_are_complete_and_part_into_optimizer_and_course():
    section = parse_optimizer("adamw", {
        "lr": 0.01, "weight_decay": 0.1, "milestones": [2], "course": "cosine", "warmup_steps": 3, "clip": 1,
        "decay_on": "matrices",
    })  # fmt: skip
    assert (section.optimizer.clip, section.optimizer.decay_on) == (1.0, "matrices")
    assert "clip" not in section.optimizer.options and section.optimizer.options["weight_decay"] == 0.1
    assert {**defaults(common_options), **section.options} == section.options
    lr = section.lr(epochs=4, steps_per_epoch=5)
    assert (lr.base, lr.milestones, lr.gamma) == (0.01, (2,), 0.25)
    assert (lr.course.kind, lr.course.warmup_steps, lr.course.total_steps, lr.course.steps_per_epoch) == (
        "cosine", 3, 20, 5)  # fmt: skip


def test_without_them_nothing_is_asked_of_a_step():
    section = parse_optimizer("adam", {})
    assert section.lr(1, 1).course.is_constant
    assert (section.optimizer.clip, section.optimizer.decay_on) == (0.0, "all")


def test_they_stay_when_another_optimizer_is_named():
    assert set(INHERITED["optimizer"]) == {"lr", *defaults(common_options)}


@pytest.mark.parametrize(("name", "options", "text"), [
    ("adam", {"course": "cosin"}, r"optimizer.course \(given: 'cosin', str, expected: 'constant' or 'cosine' or "),
    ("adam", {"warmup_steps": -1}, r"optimizer.warmup_steps \(given: -1, expected: at least 0"),
    ("adam", {"final_fraction": 1.5}, r"optimizer.final_fraction \(given: 1.5, expected: at least 0, at most 1"),
    ("adam", {"decay_share": 0}, r"optimizer.decay_share \(given: 0, expected: above 0"),
    ("sgd", {"clip": -1.0}, r"optimizer.clip \(given: -1.0, expected: at least 0"),
    ("adam", {"decay_on": "vectors"}, r"optimizer.decay_on \(given: 'vectors'"),
    ("rprop", {"decay_on": "matrices"},
     r"decays no weights .*name = \"rprop\".*Leave it out, or choose a"),
    ("adam", {"milestones": [3, 2]}, r"rising, from 1 on"),
    ("adam", {"warm_up": 3},
     r"unknown key \(given: optimizer.warm_up, .*optimizer.warmup_steps.*Did you mean 'warmup_steps'"),
])  # fmt: skip
def test_wrong_options(name, options, text):
    with pytest.raises(ConfigError, match=text):
        parse_optimizer(name, options)


def test_rprop_begins_at_the_full_rate_whatever_course_was_meant_for_others():
    """It asks for the rate at its first step and never again, which a warm-up would divide for good."""
    given = {"lr": 0.01, "course": "cosine", "warmup_steps": 5}
    assert parse_optimizer("rprop", given).lr(2, 10).course.is_constant
    assert not parse_optimizer("adam", given).lr(2, 10).course.is_constant
