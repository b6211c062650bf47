"""Alternating minimisation over stages: the same weights wherever the blocks are, under both rules."""

import pytest
from tests.support.products import PLACES, rare, square
from tests.support.resumes import cuts_of, resumed, written
from tests.support.runs import LATE, merged, run, sha

from pipeline.engine import start
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


@pytest.mark.parametrize(("case", "place"), square(CASES, PLACES))
def test_p1_any_number_of_stages_over_any_transport(tmp_path, case, place):
    stages, transport = place
    placed = {"run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "placed", {**CASES[case], **placed}) == sha(tmp_path / "one", CASES[case])


@pytest.mark.parametrize("case", rare(CASES, but=["memory"]))
def test_p2_stages_and_messages_slowed_at_random(tmp_path, case):
    assert sha(tmp_path / "slow", {**CASES[case], **LATE}) == sha(tmp_path / "one", CASES[case])


def test_memories_are_part_of_a_snapshot(tmp_path):
    """From every step of an epoch, on other stages."""
    each = {**CASES["memory"], "snapshot": {"every_steps": 1}}
    reference = written(tmp_path / "run", each)
    cuts = cuts_of(tmp_path / "run")[4:9]
    assert len(cuts) == 5
    for index, cut in enumerate(cuts):
        placed = merged(each, {"run": {"stages": 1 + index % 3}})
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, placed)[:4] == reference[:4]


def test_a_run_that_forgets_its_memories_learns_something_else(tmp_path, monkeypatch):
    each = {**CASES["memory"], "snapshot": {"every_steps": 1}}
    reference, real = written(tmp_path / "run", each), start.restore

    def restore(stage, block, state):
        before = [memory.clone() for memory in stage.rules[block].buffers()]
        real(stage, block, state)
        for memory, old in zip(stage.rules[block].buffers(), before, strict=True):
            memory.copy_(old)

    monkeypatch.setattr(start, "restore", restore)
    assert resumed(tmp_path / "run", cuts_of(tmp_path / "run")[7], tmp_path / "on", each)[0] != reference[0]


@pytest.mark.parametrize("in_flight", [2, 3])
def test_late_codes_are_equally_late_on_any_number_of_stages(tmp_path, in_flight):
    changes = {**CASES["signs"], "train": {"in_flight": in_flight}}
    one = sha(tmp_path / "one", changes)
    placed = {"run": {"stages": 3}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "three", {**changes, **placed}) == one
    assert sha(tmp_path / "undelayed", CASES["signs"]) != one


def test_a_memory_takes_one_batch_at_a_time(tmp_path):
    whole = "the rule am_mem learns from a batch as a whole"
    for changes, what in (
        ({"train": {"in_flight": 2}}, "supports at most 1 batches in flight"),
        ({"train": {"microbatches": 2}}, f"{whole}, and parts of the batch would give other weights"),
        ({"train": {"microbatches": 2}, "run": {"replicas": 2}},
         f"replicas are dealt the parts of a batch, and {whole}"),
    ):
        with pytest.raises(ConfigError, match=what):
            run(tmp_path / "run", merged(CASES["memory"], changes))


@pytest.mark.parametrize("case", ["signs", "sgd", "memory"])
def test_every_variant_learns_the_digits(tmp_path, case):
    """Chance is 0.1."""
    changes = {**CASES[case], "dataset": {"name": "digits"}, "train": {"epochs": 8, "batch_size": 50}}
    changes["model"] = {**changes["model"], "width": [32, 32]}
    if case == "signs":
        changes["model"]["activation"] = ["sign", "tanh"]
        changes["optimizer"] = {"name": "adam", "lr": 0.01, "milestones": []}
    assert run(tmp_path / "run", changes)["test"]["accuracy"] > 0.7
