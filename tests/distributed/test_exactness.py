"""Placement changes the clock, never the model: the same weights, bit for bit, wherever the blocks are.

One compute thread per stage throughout: two threads round a matrix product differently from one (``run.threads`` is
part of the result on CPU).
"""

import json
from functools import cache

import pytest
from tests.support.command import ROOT, call, call_ranks, launch
from tests.support.products import rare, square
from tests.support.runs import sha

from pipeline.config import load_config

LOCAL = ["linear_decoder", "pred", "sim", "predsim", "pred_bio", "sim_bio", "predsim_bio", "drtp"]
FEEDBACK = ["backprop", "glob_sim", "fa", "usf", "brsf", "frsf", "dfa", "sdfa", "am"]
pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of each rule from one stage in this process."""
    return cache(lambda rule: sha(tmp_path_factory.mktemp(rule) / "run", {"rule": {"name": rule}}))


def placed(tmp_path, rule, stages, transport, **more):
    """The weights of ``rule`` from another placement."""
    changes = {"rule": {"name": rule}, "run": {"stages": stages}, "transport": {"name": transport}, **more}
    if "depth" in changes:
        changes["transport"]["depth"] = changes.pop("depth")
    return sha(tmp_path / "run", changes)


TRANSPORTS = ["inline", "shared_memory", "process_group"]
STAGES = [2, 3, "blocks"]


@pytest.mark.parametrize(("rule", "stages", "transport"), square(LOCAL + FEEDBACK, STAGES, TRANSPORTS))
def test_p1_any_number_of_stages_over_any_transport(tmp_path, reference, rule, stages, transport):
    assert placed(tmp_path, rule, stages, transport) == reference(rule)


@pytest.mark.parametrize(("rule", "depth"), square(LOCAL, [1, 8]))
def test_p1_any_queue_depth(tmp_path, reference, rule, depth):
    assert placed(tmp_path, rule, 3, "shared_memory", depth=depth) == reference(rule)


@pytest.mark.parametrize("rule", [*rare(LOCAL, but=["predsim", "pred_bio", "drtp"]), "dfa", *rare(["am"], but=[])])
def test_p2_stages_and_transports_slowed_at_random(tmp_path, reference, rule):
    slow = {"model": {"name": "tests.support.slow_mlp"}}
    found = placed(tmp_path, rule, 3, "tests.support.slow_shared_memory", **slow)
    assert found == sha(tmp_path / "reference", {"rule": {"name": rule}, **slow})


@pytest.mark.parametrize(("rule", "in_flight"), square(FEEDBACK, [2, 4]))
def test_late_feedback_is_equally_late_on_any_number_of_stages(tmp_path, reference, rule, in_flight):
    train = {"train": {"in_flight": in_flight}}
    first = placed(tmp_path, rule, 1, "inline", **train)
    for index, stages in enumerate([2, 3, "blocks"]):
        assert placed(tmp_path / str(index), rule, stages, "shared_memory", **train) == first
    assert reference(rule) != first


@pytest.mark.parametrize("mode", ["gpipe", "1f1b"])
def test_o_bp3_flush_schedules_agree_with_each_other_and_with_any_partition(tmp_path, mode):
    """O-BP3: 1f1b and gpipe learn the same weights bit for bit, on one stage and on three."""
    changes = {"schedule": {"mode": mode}, "train": {"microbatches": 4}}
    one = sha(tmp_path / "one", {**changes, "schedule": {"mode": "gpipe"}})
    assert placed(tmp_path, "backprop", 3, "shared_memory", **changes) == one


def test_another_seed_gives_other_weights(tmp_path, reference):
    assert sha(tmp_path / "run", {"seed": 1}) != reference("predsim")


COMMANDS = {
    "inline": (None, ["--transport", "inline", "--stages", "1"]), "spawned": (None, ["--stages", "3"]),
    "one-rank": (1, ["--stages", "2"]), "two-ranks": (2, []), "three-ranks-gloo": (3, ["--transport", "process_group"]),
}  # fmt: skip
OVERRIDES = ["train.epochs=2", "run.threads=1", "dataset.crop_padding=1", "rule.name=predsim"]


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """The weights that any command below is to end with."""
    config = load_config(ROOT / "configs" / "digits.toml", [*OVERRIDES, "run.stages=1", "transport.name=inline"])
    return sha(tmp_path_factory.mktemp("commanded") / "run", base=config.config.to_dict())


@pytest.mark.parametrize("name", COMMANDS)
def test_from_the_command_line_or_as_ranks(tmp_path, commanded, name):
    ranks, flags = COMMANDS[name]
    arguments = ["--quiet", "--out", tmp_path / "run", *flags, *OVERRIDES]
    said = [call(*arguments)] if ranks is None else call_ranks(ranks, tmp_path, *arguments)
    assert {(code, out) for code, out, _ in said} == {(0, "")}, said
    assert json.loads((tmp_path / "run" / "result.json").read_text())["weights_sha256"] == commanded


@pytest.mark.parametrize("ranks", rare([None, 1, 2], but=[None, 2]), ids=["spawned", "one-rank", "two-ranks"])
def test_from_a_command_of_its_own_or_under_torchrun(tmp_path, commanded, ranks):
    flags = ["--stages", "2"] if ranks != 2 else []
    code, _, err = launch("--quiet", "--out", tmp_path / "run", *flags, *OVERRIDES, ranks=ranks)
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["weights_sha256"] == commanded


@pytest.mark.parametrize("rule", ["backprop", "dfa", "linear_decoder"])
def test_blocks_may_hand_on_views_in_any_order(tmp_path, rule):
    """Behind an edge they lie in memory as they are counted; so they do between blocks of one stage."""
    changes = {"model": {"name": "tests.support.turned_net.small"}}
    found = {placed(tmp_path / str(n), rule, n, "inline", **changes) for n in (1, 2, "blocks")}
    assert len(found) == 1
