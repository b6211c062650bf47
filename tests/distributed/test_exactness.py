"""Placement changes the clock, never the model: the same weights, bit for bit, wherever the blocks are.

One compute thread per stage throughout: two threads round a matrix product differently from one (``run.threads`` is
part of the result on CPU).
"""

import json

import pytest
from tests.support.command import ROOT, launch
from tests.support.runs import sha

from pipeline.config import load_config

LOCAL = ["linear_decoder", "pred", "sim", "predsim", "pred_bio", "sim_bio", "predsim_bio", "drtp"]
FEEDBACK = ["backprop", "glob_sim", "fa", "usf", "brsf", "frsf", "dfa", "sdfa"]
pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of each rule from one stage in this process."""
    known = {}

    def of(rule):
        if rule not in known:
            known[rule] = sha(tmp_path_factory.mktemp(rule) / "run", {"rule": {"name": rule}})
        return known[rule]

    return of


def placed(tmp_path, rule, stages, transport, **more):
    """The weights of ``rule`` from another placement."""
    changes = {"rule": {"name": rule}, "run": {"stages": stages}, "transport": {"name": transport}, **more}
    if "depth" in changes:
        changes["transport"]["depth"] = changes.pop("depth")
    return sha(tmp_path / "run", changes)


@pytest.mark.parametrize("transport", ["inline", "shared_memory", "process_group"])
@pytest.mark.parametrize("stages", [2, 3, "blocks"])
@pytest.mark.parametrize("rule", LOCAL + FEEDBACK)
def test_p1_any_number_of_stages_over_any_transport(tmp_path, reference, rule, stages, transport):
    assert placed(tmp_path, rule, stages, transport) == reference(rule)


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("rule", LOCAL)
def test_p1_any_queue_depth(tmp_path, reference, rule, depth):
    assert placed(tmp_path, rule, 3, "shared_memory", depth=depth) == reference(rule)


@pytest.mark.parametrize("rule", LOCAL + ["dfa"])
def test_p2_stages_and_transports_slowed_at_random(tmp_path, reference, rule):
    slow = {"model": {"name": "tests.support.slow_mlp"}}
    found = placed(tmp_path, rule, 3, "tests.support.slow_shared_memory", **slow)
    assert found == sha(tmp_path / "reference", {"rule": {"name": rule}, **slow})


@pytest.mark.parametrize("in_flight", [2, 4])
@pytest.mark.parametrize("rule", FEEDBACK)
def test_late_feedback_is_equally_late_on_any_number_of_stages(tmp_path, rule, in_flight):
    train = {"train": {"in_flight": in_flight}}
    first = placed(tmp_path, rule, 1, "inline", **train)
    for index, stages in enumerate([2, 3, "blocks"]):
        assert placed(tmp_path / str(index), rule, stages, "shared_memory", **train) == first
    assert placed(tmp_path / "undelayed", rule, 1, "inline") != first


@pytest.mark.parametrize("mode", ["gpipe", "1f1b"])
def test_o_bp3_flush_schedules_agree_with_each_other_and_with_any_partition(tmp_path, mode):
    changes = {"schedule": {"mode": mode}, "train": {"microbatches": 4}}
    one = sha(tmp_path / "one", {**changes, "schedule": {"mode": "gpipe"}})
    assert placed(tmp_path, "backprop", 3, "shared_memory", **changes) == one


def test_another_seed_gives_other_weights(tmp_path, reference):
    assert sha(tmp_path / "run", {"seed": 1}) != reference("predsim")


@pytest.mark.parametrize(
    ("ranks", "flags"),
    [
        (None, ["--transport", "inline", "--stages", "1"]), (None, ["--stages", "3"]), (1, ["--stages", "2"]),
        (2, []), (3, ["--transport", "process_group"]),
    ],
    ids=["inline", "spawned", "one-rank", "two-ranks", "three-ranks-gloo"],
)  # fmt: skip
def test_from_the_command_line_spawned_or_under_torchrun(tmp_path, ranks, flags):
    overrides = ["train.epochs=2", "run.threads=1", "dataset.crop_padding=1", "rule.name=predsim"]
    code, _, err = launch("--quiet", "--out", tmp_path / "run", *flags, *overrides, ranks=ranks)
    assert code == 0, err
    config = load_config(ROOT / "configs" / "digits.toml", [*overrides, "run.stages=1", "transport.name=inline"])
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["weights_sha256"] == sha(tmp_path / "reference", base=config.config.to_dict())
