"""Sequences with one label each, read at their last step: the same weights wherever the blocks are."""

import pytest
from tests.support.command import call
from tests.support.products import square
from tests.support.resumes import cuts_of, resumed, written
from tests.support.runs import merged, sha

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


@pytest.mark.parametrize(("rule", "way"), square(list(RULES), list(WAYS)))
def test_p1_any_number_of_stages(tmp_path, rule, way):
    train = WAYS[way]
    table = merged(base(rule), {"train": train})
    one = sha(tmp_path / "one", base=table)
    changes = {"run": {"stages": "blocks"}, "transport": {"name": "inline" if train else "shared_memory"}}
    assert sha(tmp_path / "all", changes, base=table) == one


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
