"""Alternating minimisation over stages: the same weights wherever the blocks are, under both rules."""

import pytest
from tests.support.products import square
from tests.support.runs import run, sha

from pipeline.errors import ConfigError

pytestmark = pytest.mark.distributed
SIGNS = {"name": "half_mlp", "width": [12, 12, 12, 12], "activation": ["sign", "tanh", "relu", "relu"], "dropout": 0.2}
CASES = {
    "signs": {"rule": {"name": "am"}, "model": SIGNS},
    "sgd": {"rule": {"name": "am", "reduction": "features"}, "model": {"name": "half_mlp", "width": [12, 12, 12]},
            "optimizer": {"name": "sgd", "lr": 0.1, "milestones": []}},
    "memory": {"rule": {"name": "am_mem", "reduction": "features", "code_rate": 0.005},
               "model": {"name": "half_mlp", "width": [12, 12, 12], "norm": "none"},
               "optimizer": {"name": "sgd", "lr": 1.0, "milestones": []}},
    "lenet": {"rule": {"name": "am"}, "model": {"name": "lenet5", "boundary": "half"},
              "dataset": {"name": "noise", "shape": [1, 16, 16], "num_train": 60, "num_test": 20, "num_classes": 4}},
}  # fmt: skip
PLACES = [(2, "shared_memory"), (3, "process_group"), ("blocks", "inline")]


@pytest.mark.parametrize(("case", "place"), square(CASES, PLACES))
def test_p1_any_number_of_stages_over_any_transport(tmp_path, case, place):
    stages, transport = place
    placed = {"run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "placed", {**CASES[case], **placed}) == sha(tmp_path / "one", CASES[case])


@pytest.mark.parametrize("in_flight", [2, 3])
def test_late_codes_are_equally_late_on_any_number_of_stages(tmp_path, in_flight):
    changes = {**CASES["signs"], "train": {"in_flight": in_flight}}
    one = sha(tmp_path / "one", changes)
    placed = {"run": {"stages": 3}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "three", {**changes, **placed}) == one
    assert sha(tmp_path / "undelayed", CASES["signs"]) != one


def test_a_memory_takes_one_batch_at_a_time(tmp_path):
    for train, what in (({"in_flight": 2}, "in_flight"), ({"microbatches": 2}, "microbatches")):
        with pytest.raises(ConfigError, match=what):
            run(tmp_path / what, {**CASES["memory"], "train": train})


@pytest.mark.parametrize("case", ["signs", "sgd", "memory"])
def test_every_variant_learns_the_digits(tmp_path, case):
    """Chance is 0.1."""
    changes = {**CASES[case], "dataset": {"name": "digits"}, "train": {"epochs": 8, "batch_size": 50}}
    changes["model"] = {**changes["model"], "width": [32, 32]}
    if case == "signs":
        changes["model"]["activation"] = ["sign", "tanh"]
        changes["optimizer"] = {"name": "adam", "lr": 0.01, "milestones": []}
    assert run(tmp_path / "run", changes)["test"]["accuracy"] > 0.7
