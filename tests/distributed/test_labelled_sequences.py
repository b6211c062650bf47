"""Sequences with one label each, read at their last step: the same weights wherever the blocks are."""

from functools import cache
from itertools import product

import pytest
from tests.support.command import call
from tests.support.products import PLACES, rare
from tests.support.resumes import cuts_of, resumed, written
from tests.support.runs import LATE, merged, run, sha

from pipeline.records.weights import latest_weights, load_blocks

pytestmark = pytest.mark.distributed
RULES = {
    "am": ({"name": "am", "reduction": "features", "code_rate": 0.05}, {"boundary": "half"}),
    "lra_rnn": ({"name": "lra_rnn", "through_time": "fdbk"}, {"depth": 2}),
    "dfa": ({"name": "dfa", "inject": "cell"}, {"depth": 2}),
}  # fmt: skip


NOISE = {"name": "noise", "shape": [7, 3], "num_train": 20, "num_test": 6, "num_classes": 3}


def base(rule):
    """A run on random sequences."""
    found, model = RULES[rule]
    return {
        "model": {"name": "rnn", "width": 6, "reads": "last", **model}, "rule": found,
        "dataset": NOISE, "optimizer": {"name": "adam", "lr": 1e-2},
        "train": {"epochs": 2, "batch_size": 8}, "transport": {"name": "inline"},
        "run": {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0},
    }  # fmt: skip


WAYS = {"plain": {}, "late": {"in_flight": 3}, "parts": {"microbatches": 3}}


NUM_BLOCKS = {"am": 2, "lra_rnn": 3, "dfa": 3}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of each rule and way to learn from one stage in this process."""

    @cache
    def found(rule, way):
        return sha(tmp_path_factory.mktemp(rule) / "run", {"train": WAYS[way]}, base=base(rule))

    return found


CASES = [(rule, way, *place) for rule, way, place in product(RULES, WAYS, PLACES)
         if place[0] == "blocks" or place[0] < NUM_BLOCKS[rule]]  # fmt: skip
USUAL = [("am", "plain", "blocks", "shared_memory"), ("lra_rnn", "parts", "blocks", "inline"),
         ("dfa", "late", "blocks", "inline")]  # fmt: skip


@pytest.mark.parametrize("case", rare(CASES, but=USUAL), ids=lambda case: "-".join(map(str, case)))
def test_p1_any_number_of_stages_over_any_transport(tmp_path, reference, case):
    rule, way, stages, transport = case
    changes = {"train": WAYS[way], "run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "run", changes, base=base(rule)) == reference(rule, way)


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rule", RULES)
def test_p2_stages_and_messages_slowed_at_random(tmp_path, reference, rule, way):
    late = merged(LATE, {"train": WAYS[way], "run": {"stages": "blocks"}})
    assert sha(tmp_path / "run", late, base=base(rule)) == reference(rule, way)


@pytest.mark.parametrize("rule", RULES)
def test_parts_add_up_to_the_batch(tmp_path, rule):
    """Up to rounding: sums over samples are grouped otherwise."""
    descends = {"optimizer": {"name": "sgd", "lr": 1e-2}}
    run(tmp_path / "whole", descends, base=base(rule))
    run(tmp_path / "parts", {**descends, "train": {"microbatches": 3}}, base=base(rule))
    for whole, parts in zip(*(load_blocks(latest_weights(tmp_path / name)) for name in ("whole", "parts"))):
        for key, expected in whole.items():
            assert (parts[key] - expected).abs().max() <= 1e-4 * expected.abs().max(), key


def test_codes_in_time_go_on_from_a_snapshot(tmp_path):
    table = merged(base("am"), {"snapshot": {"every_steps": 1, "keep": 100}})
    expected = written(tmp_path / "run", {}, table)[:4]
    cut = cuts_of(tmp_path / "run")[4]
    assert resumed(tmp_path / "run", cut, tmp_path / "again", {"run": {"stages": 2}}, table)[:4] == expected


WRONG = {
    "several layers": (["model.depth=2"], "only one Elman block can send its pre-activations (given: model.bound"),
    "gates": (["model.cell=gru"], "with model.cell = 'gru' and model.depth = 1, expected: elman and 1)"),
    "another rule": (["rule.name=lra_rnn"], "model.boundary to post"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_pre_activations_are_sent_by_one_elman_block_to_a_rule_that_takes_them(tmp_path, name):
    changes, expected = WRONG[name]
    code, out, err = call(
        "--out", tmp_path / "run", "--stages", "1", "dataset.name=noise", "dataset.shape=[7, 3]",
        "model.name=rnn", "model.reads=last", "model.boundary=half", "rule.name=am", *changes,
    )  # fmt: skip
    assert code == 2 and out == "" and err.count("\n") == 1 and expected in err, err
