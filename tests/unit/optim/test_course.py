"""Courses of the learning rate: torch's own schedulers are the oracle."""

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

from pipeline.errors import ConfigError
from pipeline.optim.course import Course

STEPS, WARMUP, FINAL = 40, 6, 0.1


def torchs(*parts):
    """The rates of torch's schedulers one after another: pairs of a scheduler and its number of steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    starts = [sum(count for _, count in parts[:k]) for k in range(1, len(parts))]
    schedule = SequentialLR(optimizer, [make(optimizer) for make, _ in parts], starts)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def warmup(optimizer):
    return LinearLR(optimizer, 1 / WARMUP, 1.0, WARMUP - 1)


def cosine(optimizer):
    return CosineAnnealingLR(optimizer, STEPS - WARMUP, FINAL)


def line(over):
    return lambda optimizer: LinearLR(optimizer, 1.0, FINAL, over)


def level(optimizer):
    return ConstantLR(optimizer, 1.0, 1)


CASES = {
    "constant": [(warmup, WARMUP), (level, STEPS)],
    "cosine": [(warmup, WARMUP), (cosine, STEPS)],
    "linear": [(warmup, WARMUP), (line(STEPS - WARMUP), STEPS)],
    "wsd": [(warmup, WARMUP), (level, STEPS - WARMUP - 10), (line(10), STEPS)],
}


@pytest.mark.parametrize("kind", CASES)
def test_the_factors_are_those_of_torchs_schedulers(kind):
    course = Course(kind, WARMUP, FINAL, 0.25, STEPS)
    assert [course.factor(n) for n in range(STEPS)] == pytest.approx(torchs(*CASES[kind]), rel=1e-6)
    assert not course.is_constant


def test_behind_the_run_the_rate_stays_and_without_a_course_it_never_moves():
    assert [Course(kind, 0, FINAL, 0.5, 4).factor(n) for kind in ("cosine", "linear", "wsd") for n in (4, 9)] == (
        pytest.approx([FINAL] * 6)
    )
    assert Course().is_constant and {Course(total_steps=9).factor(n) for n in range(12)} == {1.0}


@pytest.mark.parametrize(("kind", "steps", "text"), [
    ("constant", 10, r"warmup_steps = 10 in a run of 10 steps, expected: at most 9\). Lower it, or train longer."),
    ("cosine", 10, r"expected: at most 9\)"),
    ("wsd", 8, r"warmup_steps = 8 and a decay of 3 in a run of 10 steps, expected: at most 7\)"),
])  # fmt: skip
def test_a_warm_up_that_takes_the_whole_run(kind, steps, text):
    Course(kind, steps - 1, total_steps=10, decay_share=0.25 if kind != "wsd" else 0.3)
    with pytest.raises(ConfigError, match=text):
        Course(kind, steps, total_steps=10, decay_share=0.25 if kind != "wsd" else 0.3)


def test_no_warm_up_is_always_room_enough():
    assert Course("wsd", 0, 0.0, 1.0, 1).factor(0) == 1.0
