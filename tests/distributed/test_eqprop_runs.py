"""Equilibrium propagation over stages: the same states and weights wherever the blocks are."""

import pytest
import torch
from tests.support.products import PLACES, rare, square
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import LATE, merged, run, sha

from pipeline.errors import ConfigError
from pipeline.records.weights import latest_weights, load_blocks

pytestmark = pytest.mark.distributed
SGD = {"name": "sgd", "lr": 0.1, "milestones": []}
RULES = {
    "prototypical": {"name": "eqprop", "free_rounds": 6, "nudged_rounds": 4, "nudging": "random_sign"},
    "energy": {"name": "eqprop", "form": "energy", "free_rounds": 5, "nudged_rounds": 4, "beta": 0.5,
               "nudging": "random_sign", "persistent": True},
    "symmetric": {"name": "eqprop", "form": "energy", "free_rounds": 5, "nudged_rounds": 4, "rates": [1, 1, 1, 0.5]},
}  # fmt: skip
BASE = merged(TINY, {
    "model": {"name": "mlp", "depth": 3, "width": 12, "norm": "none", "dropout": 0.0, "activation": "clip"},
    "dataset": {"num_train": 60}, "train": {"epochs": 2, "batch_size": 25}, "optimizer": SGD,
})  # fmt: skip
"""Three steps an epoch, the last one smaller."""


def changes(rule, stages=1, transport="inline", **more):
    return {"rule": RULES[rule], "run": {"stages": stages}, "transport": {"name": transport}, **more}


def states_of(out):
    """What a run has kept of every training sample, block by block."""
    return [state["states"] for state in load_blocks(latest_weights(out))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Weights and scores of every rule from one stage in this process."""
    found = {}
    for rule in RULES:
        table = run(tmp_path_factory.mktemp(rule) / "run", changes(rule), base=BASE)
        found[rule] = table["weights_sha256"], table["test"]
    return found


@pytest.mark.parametrize(("rule", "place"), square(RULES, PLACES))
def test_p1_any_number_of_stages_over_any_transport(tmp_path, reference, rule, place):
    """The digest covers what is kept of every sample."""
    table = run(tmp_path / "run", changes(rule, *place), base=BASE)
    assert (table["weights_sha256"], table["test"]) == reference[rule]


def test_every_training_sample_has_been_kept(tmp_path):
    run(tmp_path / "run", changes("energy", 2), base=BASE)
    first, *_ = states = states_of(tmp_path / "run")
    assert [len(s) for s in states] == [60] * 4 and (first != 0).any(1).all()


@pytest.mark.parametrize("rule", rare(RULES, but=["energy"]))
def test_p2_stages_and_messages_slowed_at_random(tmp_path, reference, rule):
    assert sha(tmp_path / "run", {**changes(rule), **LATE}, base=BASE) == reference[rule][0]


@pytest.mark.parametrize("rule", RULES)
def test_micro_batches_are_the_batch(tmp_path, rule):
    """Up to rounding, the kept states and the sign of a batch included; and to the bit on other stages."""
    run(tmp_path / "one", changes(rule), base=BASE)
    parts = {"train": {"microbatches": 4}}
    one = run(tmp_path / "parts", changes(rule, **parts), base=BASE)
    two = run(tmp_path / "placed", changes(rule, 2, "shared_memory", **parts), base=BASE)
    assert two["weights_sha256"] == one["weights_sha256"]
    pairs = zip(*(load_blocks(latest_weights(tmp_path / name)) for name in ("parts", "one")), strict=True)
    for mine, other in pairs:
        for name, tensor in other.items():
            torch.testing.assert_close(mine[name], tensor, rtol=0.0, atol=1e-4 * tensor.abs().max().item())


def test_kept_states_are_part_of_a_snapshot(tmp_path):
    """From every step, on other stages; and another run without them."""
    each = {**changes("energy"), "snapshot": {"every_steps": 1}}
    reference = written(tmp_path / "run", each, BASE)
    cuts = cuts_of(tmp_path / "run")
    assert len(cuts) == 5
    for index, cut in enumerate(cuts):
        placed = merged(each, {"run": {"stages": 1 + index % 3}})
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, placed, BASE)[:4] == reference[:4]


def test_of_a_batch_that_is_left_out_nothing_is_kept(tmp_path):
    bad = {"dataset": {"name": "tests.support.poison", "bad": [7]}, "train": {"nonfinite": "skip"}}
    run(tmp_path / "run", changes("energy", 2, **bad), base=BASE)
    for state in states_of(tmp_path / "run"):
        assert state.isfinite().all() and not state[7].any()


@pytest.mark.parametrize("replicas", rare(["2-1", "1-2-2"], but=["2-1"]))
def test_replicas_draw_the_sign_of_a_batch_alike(tmp_path, replicas):
    counts = [int(count) for count in replicas.split("-")]
    parts = {"train": {"microbatches": 2}}
    one = run(tmp_path / "one", changes("prototypical", **parts), base=BASE)
    placed = merged(changes("prototypical", len(counts), "shared_memory", **parts), {"run": {"replicas": counts}})
    several = run(tmp_path / "several", placed, base=BASE)
    assert (several["weights_sha256"], several["test"]) == (one["weights_sha256"], one["test"])
    assert several["replicas"] == counts


def test_replicas_are_refused_where_states_are_kept(tmp_path):
    table = changes("energy", 2, train={"microbatches": 2})
    with pytest.raises(ConfigError, match="keeps values that every micro-batch changes in turn"):
        run(tmp_path / "run", merged(table, {"run": {"replicas": [2, 1]}}), base=BASE)


def test_under_autocast_no_product_is_rounded(tmp_path, reference):
    table = run(tmp_path / "run", merged(changes("symmetric", 2), {"run": {"autocast": "bfloat16"}}), base=BASE)
    assert (table["weights_sha256"], table["test"]) == reference["symmetric"]


def test_states_settle_to_an_answer_that_learning_improves(tmp_path):
    more = {"train": {"epochs": 8}, "dataset": {"name": "digits"}, "model": {"depth": 1, "width": 40}}
    assert run(tmp_path / "run", changes("energy", **more), base=BASE)["test"]["accuracy"] > 0.8


def test_settling_of_test_batches_belongs_to_no_step(tmp_path):
    few, more = (
        run(tmp_path / str(n), changes("energy", 2, dataset={"num_test": n}), base=BASE)["stages"] for n in (10, 30)
    )
    assert all(a["bytes_sent"] < b["bytes_sent"] for a, b in zip(few, more))
    assert [row["bytes_per_step"] for row in few] == [row["bytes_per_step"] for row in more]
