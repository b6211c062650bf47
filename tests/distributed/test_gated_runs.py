"""The mode gated: its limits, and that it learns the same wherever the blocks are."""

import json
from functools import cache

import pytest
from tests.distributed.test_resume import OPTIMIZERS, resumed_everywhere
from tests.support.products import rare, square
from tests.support.resumes import TINY
from tests.support.runs import merged, run

pytestmark = pytest.mark.distributed
LOCAL = [
    "linear_decoder", "pred", "sim", "predsim", "pred_bio", "sim_bio", "predsim_bio", "drtp", "aux",
]  # fmt: skip
GATED = {"schedule": {"mode": "gated"}}
WAVE = merged(GATED, {"gate": {"delay": 0.3, "ramp": 0.5, "train_for": 1.7}})
"""Of three epochs of five steps: blocks start and end inside epochs."""
TRANSPORTS = ["inline", "shared_memory", "process_group"]


def learned(out, changes):
    table = run(out, changes, base=TINY)
    return table["weights_sha256"], table["test"], [b["test_accuracy"] for b in table["blocks"]]


def told(out):
    """The rows of every block, of all epochs."""
    rows = [json.loads(line) for line in (out / "record.jsonl").read_text().splitlines()]
    epochs = sorted(row["epoch"] for row in rows if row["event"] == "epoch")
    return [{b["block"]: b for row in rows if row["event"] == "epoch" and row["epoch"] == e for b in row["blocks"]}
             for e in sorted(set(epochs))]  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What each rule learns under each optimizer on one stage in this process."""

    def found(rule, optimizer):
        changes = merged(WAVE, {"rule": {"name": rule}, "optimizer": json.loads(optimizer)})
        return learned(tmp_path_factory.mktemp("reference") / "run", changes)

    return cache(found)


ADAM = json.dumps({"name": "adam", "lr": 0.01})


@pytest.mark.parametrize(("rule", "placed"), square(LOCAL, list(zip([2, 3, "blocks"], TRANSPORTS, strict=True))))
def test_every_local_rule_on_any_number_of_stages_over_any_transport(rule, placed, reference, tmp_path):
    stages, transport = placed
    changes = merged(WAVE, {"rule": {"name": rule}, "run": {"stages": stages}, "transport": {"name": transport}})
    changes = merged(changes, {"optimizer": json.loads(ADAM)})
    assert learned(tmp_path / "run", changes) == reference(rule, ADAM)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_stages_that_are_processes_of_their_own(transport, reference, tmp_path):
    changes = merged(WAVE, {"run": {"stages": 2}, "transport": {"name": transport}, "optimizer": json.loads(ADAM)})
    assert learned(tmp_path / "run", changes) == reference("predsim", ADAM)


@pytest.mark.parametrize(
    "optimizer", rare([json.dumps({"lr": 0.01, **o}) for o in OPTIMIZERS], but=[
        json.dumps({"lr": 0.01, "name": "rprop"}), json.dumps({"lr": 0.01, "name": "sgd", "momentum": 0.9}),
    ]),
)  # fmt: skip
def test_every_optimizer(optimizer, reference, tmp_path):
    changes = merged(WAVE, {"rule": {"name": "pred"}, "optimizer": json.loads(optimizer), "run": {"stages": 3}})
    assert learned(tmp_path / "run", changes) == reference("pred", optimizer)


@pytest.mark.parametrize("rule", rare(LOCAL, but=["predsim", "linear_decoder"]))
def test_gates_of_1_are_the_mode_parallel_bit_for_bit(rule, tmp_path):
    changes = {"rule": {"name": rule}}
    plain = learned(tmp_path / "plain", changes)
    assert learned(tmp_path / "gated", merged(changes, merged(GATED, {"gate": {"delay": 0.0}}))) == plain


@pytest.mark.parametrize("rule", rare(LOCAL, but=["predsim", "pred"]))
def test_a_delay_as_long_as_the_training_is_the_sequential_mode_bit_for_bit(rule, tmp_path):
    """With a rate that does not change: there it follows each block's own epochs, here the run's."""
    base = {"rule": {"name": rule}, "optimizer": {"milestones": []}}
    turns = {"schedule": {"mode": "sequential", "patience": 9, "tolerance": 0.0}, "train": {"epochs": 2}}
    one_by_one = run(tmp_path / "turns", merged(base, turns), base=TINY)
    wave = merged(GATED, {"gate": {"delay": 2.0, "train_for": 2.0}, "train": {"epochs": 8}})
    found = run(tmp_path / "wave", merged(base, merged(wave, {"run": {"stages": 2}})), base=TINY)
    assert found["weights_sha256"] == one_by_one["weights_sha256"] and found["test"] == one_by_one["test"]
    same = ("epochs_trained", "frozen_at_epoch")
    assert [[b[k] for k in same] for b in found["blocks"]] == [[b[k] for k in same] for b in one_by_one["blocks"]]


def test_what_is_written_down(tmp_path):
    run(tmp_path / "run", merged(WAVE, {"run": {"stages": 2}}), base=TINY)
    epochs = told(tmp_path / "run")
    # Starts after 0, 1.5, 3 and 4.5 steps of 5, ramps of 2.5, and the last step of each within 8.5.
    gates = [[epoch[k].get("gate") for k in range(4)] for epoch in epochs]
    expected = [
        [(0.4 + 0.8 + 3) / 5, (0.2 + 0.6 + 1 + 1) / 5, (0.4 + 0.8) / 5, 0.2 / 5],
        [3 / 5, 1.0, 1.0, (0.6 + 4) / 5], [None, None, 1 / 5, 3 / 5],
    ]  # fmt: skip
    for found, wanted in zip(gates, expected, strict=True):
        assert found == [None if w is None else pytest.approx(w) for w in wanted]
    assert [epochs[2][k]["trained"] for k in range(4)] == [False, False, True, True]


def test_modes_without_a_gate_tell_of_none(tmp_path):
    run(tmp_path / "run", base=TINY)
    assert not any("gate" in block for epoch in told(tmp_path / "run") for block in epoch.values())


@pytest.mark.parametrize("rule", ["predsim", pytest.param("linear_decoder", marks=pytest.mark.full)])
def test_taken_up_from_every_step(rule, tmp_path):
    changes = merged(WAVE, {"rule": {"name": rule}, "snapshot": {"every_steps": 1}})
    found, differing = resumed_everywhere(tmp_path, changes, cuts=slice(None, None, 2))
    assert found == 7 and differing == []


SETTINGS = {
    "autocast": {"run": {"autocast": "bfloat16"}}, "stage": {"run": {"learn_after": "stage"}},
    "wire": {"transport": {"wire": "int8"}}, "parts": {"rule": {"name": "pred"}, "train": {"microbatches": 2}},
    "frozen": {"train": {"freeze": "1"}},
    "own": {"optimizer": {"blocks": {"0-1": {"name": "sgd", "lr": 0.1}}}},
    "mixed": {"rule": {"name": "pred", "blocks": {"1": {"name": "sim"}}}},
    "skip": {"train": {"nonfinite": "skip"}},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_a_stage_go_with_it(name, tmp_path):
    changes = merged(WAVE, SETTINGS[name])
    one = learned(tmp_path / "one", changes)
    assert learned(tmp_path / "three", merged(changes, {"run": {"stages": 3}})) == one
