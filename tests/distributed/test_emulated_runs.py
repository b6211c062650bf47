"""Runs whose compute is emulated, and runs that are late: nothing is learned, and nothing is changed."""

import json

import pytest
from tests.support.command import call, call_ranks
from tests.support.runs import run, sha

from pipeline.errors import ConfigError

pytestmark = pytest.mark.distributed

EMULATED = {"chaos": {"compute": "sleep", "compute_s": 0.004}, "train": {"epochs": 2}}
LATE = {"chaos": {"delay_s": 0.002, "stage_delay_s": 0.001, "delay": "random"}}
PLAIN = {"model": {"name": "mlp", "depth": 4, "width": 32, "norm": "none"}}
SMOOTH = {"model": {"name": "mlp", "depth": 4, "width": 32, "norm": "none", "dropout": 0.0, "activation": "tanh"}}


def stages(number, transport="shared_memory"):
    return {"run": {"stages": number}, "transport": {"name": transport}}


def join(*tables):
    found = {}
    for table in tables:
        for section, values in table.items():
            found[section] = {**found.get(section, {}), **values}
    return found


@pytest.mark.parametrize(
    ("mode", "rule", "sends", "transport"),
    [("parallel", "predsim", [True, True, False], "shared_memory"), ("parallel", "dfa", [True] * 3, "shared_memory"),
     ("gpipe", "backprop", [True] * 2, "shared_memory"), ("1f1b", "backprop", [True] * 3, "shared_memory"),
     ("backprop", "backprop", [False], "shared_memory"), ("pipedream", "fa", [True] * 2, "inline"),
     ("parallel", "pred", [True] * 4 + [False], "inline")],
)  # fmt: skip
def test_a_stage_waits_in_place_of_computing(tmp_path, mode, rule, sends, transport):
    chosen = {"schedule": {"mode": mode}, "rule": {"name": rule}}
    table = run(tmp_path / "run", join(EMULATED, PLAIN, stages(len(sends), transport), chosen))
    assert table["emulated"] is True and "nothing was learned" in table["note"]
    assert table["weights_sha256"] is None and table["test"] == {"accuracy": None, "loss": None}
    steps = table["steps"]
    for row in table["stages"]:
        assert row["parameter_bytes"] == row["optimizer_bytes"] == 0
        # The last batch of an epoch is smaller.
        assert row["forward_s"] + row["learn_s"] >= (steps - 2) * 0.004 * 0.95
    assert [row["bytes_sent"] > 0 for row in table["stages"]] == sends
    header = json.loads((tmp_path / "run" / "record.jsonl").read_text().splitlines()[0])
    assert header["config"]["chaos"]["compute"] == "sleep"


@pytest.mark.parametrize("rule", ["fa", "dni"])
def test_messages_have_their_true_size(tmp_path, rule):
    changes = join(PLAIN, stages(2, "inline"), {"rule": {"name": rule}, "train": {"epochs": 2}})
    real = run(tmp_path / "real", changes)
    emulated = run(tmp_path / "emulated", join(changes, EMULATED))
    assert [r["bytes_sent"] for r in real["stages"]] == [r["bytes_sent"] for r in emulated["stages"]]


@pytest.mark.parametrize(("rule", "mode"), [("pred", "parallel"), ("fa", "parallel"), ("backprop", "gpipe")])
def test_gradients_between_replicas_have_their_true_size(tmp_path, rule, mode):
    replicated = {"run": {"stages": 2, "replicas": [1, 2], "threads": 1}, "train": {"epochs": 1, "microbatches": 2}}
    changes = join(PLAIN, {"rule": {"name": rule}, "schedule": {"mode": mode}}, replicated)
    real = run(tmp_path / "real", changes)
    emulated = run(tmp_path / "emulated", join(changes, {"chaos": EMULATED["chaos"]}))
    assert emulated["emulated"] and emulated["weights_sha256"] is None
    lost = [r["bytes_sent"] - e["bytes_sent"] for r, e in zip(real["stages"], emulated["stages"], strict=True)]
    # No losses, of 4 bytes for each block and micro-batch, are there to be sent.
    assert lost[0] == 0 and all(0 <= n <= 5 * 4 * real["steps"] for n in lost[1:])
    assert all(row["parameter_bytes"] == 0 for row in emulated["stages"])


def test_measured_blocks_are_waited_for(tmp_path):
    table = run(tmp_path / "run", join(PLAIN, stages(2, "inline"), {"chaos": {"compute": "sleep"}}))
    assert table["emulated"] and all(row["learn_s"] > 0 for row in table["stages"])


def test_full_queues_may_take_longer_to_empty_than_the_wait_for_one_message(tmp_path):
    """Stage 0 of two ranks has done its work at once; what it has sent takes stage 1 over four seconds."""
    flags = [
        "--quiet", "--out", tmp_path / "run", "chaos.compute=sleep", "chaos.compute_s=[0.0,0.3]", "model.depth=1",
        "rule.name=pred", "train.epochs=1", "train.batch_size=96", "transport.depth=16", "run.timeout_s=3.0",
    ]  # fmt: skip
    assert call_ranks(2, tmp_path, *flags) == [(0, "", "")] * 2


@pytest.mark.parametrize("rule", ["predsim", "dfa", "fa", "lra_fdbk"])
def test_delays_do_not_change_the_weights(tmp_path, rule):
    model = SMOOTH if rule.startswith("lra") else {}
    changes = join({"rule": {"name": rule}, "train": {"epochs": 1}}, model, stages(3))
    assert sha(tmp_path / "late", join(changes, LATE)) == sha(tmp_path / "on-time", changes)


def test_stragglers_do_not_change_the_weights_of_settling_blocks(tmp_path):
    changes = join(stages(2), {"rule": {"name": "tests.support.settling_rule.build"}, "train": {"epochs": 1}}, PLAIN)
    late = {"chaos": {"delay_s": [0.001], "delay": "straggler"}}
    assert sha(tmp_path / "late", join(changes, late)) == sha(tmp_path / "on-time", changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"schedule": {"mode": "sequential"}}, "with the mode sequential"),
     ({"measure": {"every": 1}}, "with measure.every = 1"),
     ({"rule": {"name": "tests.support.settling_rule.build"}, **PLAIN}, "with the rule tests")],
)  # fmt: skip
def test_what_depends_on_learning_cannot_be_emulated(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=f"compute cannot be emulated .*{told}"):
        run(tmp_path / "run", join(EMULATED, changes))


def test_the_terminal_says_that_nothing_is_learned(tmp_path):
    code, out, err = call(
        "--config", "configs/digits.toml", "--out", tmp_path / "run", "--stages", 2, "--transport", "inline",
        "chaos.compute=sleep", "chaos.compute_s=0.0", "train.epochs=1",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.startswith("EMULATED COMPUTE, NOTHING IS LEARNED, ")
    assert "done: EMULATED COMPUTE, NOTHING WAS LEARNED" in out


def test_a_list_for_other_stages_is_one_line(tmp_path):
    times = "chaos.compute_s=[0.1,0.2,0.3]"
    code, _, err = call("--out", tmp_path / "run", "--stages", 2, "chaos.compute=sleep", times)
    assert code == 2 and err.count("\n") == 1 and "chaos.compute_s lists 3 times and the run has 2 stages" in err
