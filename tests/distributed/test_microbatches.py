"""A batch in parts: one step for all of them, the whole batch's gradient up to rounding, and less held meanwhile.

Sums over samples are grouped differently when a batch is cut, so weights agree to a tolerance there, and bit by bit
wherever the same parts are laid on other stages.
"""

from functools import cache

import pytest
from tests.support.products import square
from tests.support.runs import NUM_STEPS, run, sha

from pipeline.records.weights import latest_weights, load_blocks

pytestmark = pytest.mark.distributed
RULES = ["linear_decoder", "pred", "pred_bio", "drtp", "dfa", "sdfa", "fa", "frsf", "ifa", "backprop", "am", "dni"]
OPTIONS = {"dni": {"layers": 0}}
"""A model of gradients with hidden layers takes statistics of each part."""
TOLERANCE = 1e-5  # relative to the largest weight of a tensor, float32, after six steps
BATCH_BYTES = 240 * (64 * 4 + 8)
"""The data comes as a batch of images and labels: its parts are views of it, and it is there as long as one is."""


def changes(rule, microbatches=4, stages=1, transport="inline", mode="parallel", **train):
    """Without what depends on how a batch is cut: batch statistics, and dropout, which is drawn for each part."""
    return {
        "model": {"norm": "none", "dropout": 0.0}, "rule": {"name": rule, **OPTIONS.get(rule, {})},
        "schedule": {"mode": mode},
        "optimizer": {"name": "sgd", "lr": 0.05, "milestones": []},
        "train": {"epochs": 1, "microbatches": microbatches, **train},
        "run": {"stages": stages}, "transport": {"name": transport},
    }  # fmt: skip


def weights(out):
    return [tensor for state in load_blocks(latest_weights(out)) for tensor in state.values()]


def held(out, *args, **kwargs):
    """Bytes held by each stage."""
    return [stage["held_bytes"] for stage in run(out, changes(*args, **kwargs))["stages"]]


@pytest.mark.parametrize(("rule", "microbatches"), square(RULES, [2, 7]))
def test_parts_add_up_to_the_batch(tmp_path, rule, microbatches):
    """240 samples in parts of 35 and 34, the last batch of 237 in parts of 34 and 33."""
    run(tmp_path / "whole", changes(rule, 1))
    table = run(tmp_path / "parts", changes(rule, microbatches))
    assert table["steps"] == NUM_STEPS
    for part, whole in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        assert (part - whole).abs().max() <= TOLERANCE * whole.abs().max()


@pytest.mark.parametrize("rule", RULES)
def test_one_part_is_the_batch_itself(tmp_path, rule):
    assert sha(tmp_path / "one", changes(rule, 1)) == sha(tmp_path / "default", changes(rule, 0))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights that each rule learns from four parts in one stage."""
    return cache(lambda rule: sha(tmp_path_factory.mktemp(rule) / "run", changes(rule)))


PLACES = [(2, "inline"), (2, "shared_memory"), ("blocks", "shared_memory"), (3, "process_group")]


@pytest.mark.parametrize(("rule", "place"), square(RULES, PLACES))
def test_the_same_parts_on_any_stages_over_any_transport(tmp_path, reference, rule, place):
    assert sha(tmp_path / "run", changes(rule, 4, *place)) == reference(rule)


def test_the_order_of_the_parts_work_does_not_matter(tmp_path, reference):
    """O-BP3: from the same micro-batches gpipe, 1f1b and one process learn the same weights bit for bit."""
    for mode in ("backprop", "gpipe", "1f1b"):
        assert sha(tmp_path / mode, changes("backprop", mode=mode)) == reference("backprop")


@pytest.mark.parametrize("rule", ["linear_decoder", "pred"])
def test_a_stage_of_local_rules_holds_one_part(tmp_path, rule):
    whole, parts = held(tmp_path / "whole", rule, 1, 2), held(tmp_path / "parts", rule, 4, 2)
    assert parts[1] * 4 == whole[1]
    assert (parts[0] - BATCH_BYTES) * 4 == whole[0] - BATCH_BYTES


def test_a_stage_that_waits_holds_as_many_parts_as_are_above_it(tmp_path):
    whole, parts = held(tmp_path / "whole", "backprop", 1, 2), held(tmp_path / "parts", "backprop", 4, 2)
    assert parts[1] * 4 == whole[1]
    assert (parts[0] - BATCH_BYTES) / 2 * 4 == whole[0] - BATCH_BYTES
    assert held(tmp_path / "gpipe", "backprop", 4, 2, mode="gpipe")[1] == whole[1]


def test_backprop_in_one_process_holds_one_part(tmp_path):
    whole, parts = (held(tmp_path / f"{n}", "backprop", n, mode="backprop")[0] for n in (1, 4))
    assert (parts - BATCH_BYTES) * 4 == whole - BATCH_BYTES
