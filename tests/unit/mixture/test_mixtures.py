"""Which rules go together, which do not, and what is said of those."""

import pytest
from tests.support.mixtures import MIXTURES, blocks
from tests.support.resumes import TINY
from tests.support.runs import merged

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.resolve import resolve

PLAIN = {"model": {"depth": 5, "norm": "none", "dropout": 0.0, "activation": "tanh"}}


def resolved(changes, folder):
    return resolve(Config.from_dict(merged(merged(TINY, PLAIN), changes)), folder)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_resolved_mixture_resolves_to_itself(name, tmp_path):
    found = resolved(MIXTURES[name], tmp_path)
    assert resolve(Config.from_dict(found.config.to_dict()), tmp_path).config == found.config


@pytest.mark.parametrize(
    ("changes", "topologies"),
    [
        (blocks("predsim", b0="sim"), None), (blocks("dfa", b0="dfa"), None), ({"rule": {"name": "fa"}}, None),
        ({"rule": {"name": "dfa", "blocks": {"0": {"matrix": "orthogonal"}}}}, None),
        ({"rule": {"name": "predsim"}, "train": {"freeze": "1"}}, None),
        (blocks("backprop", b0_1="pred"), "LLNNNN"), (blocks("dfa", b2="backprop", b3="sim"), "BBNLBB"),
        ({"rule": {"name": "backprop"}, "train": {"freeze": "0-1"}}, "LLNNNN"),
        ({"rule": {"name": "backprop"}, "train": {"freeze": "0,3-last"}}, "LNNNNN"),
        (blocks("backprop", b0_1="usf"), "NNNNNN"), (blocks("usf", last="backprop"), "NNNNNN"),
    ],
)  # fmt: skip
def test_where_feedback_comes_from(changes, topologies, tmp_path):
    found = resolved(changes, tmp_path).routes
    assert (None if found is None else "".join(t.name[0] for t in found.topologies)) == topologies


def test_the_run_waits_as_its_blocks_do(tmp_path):
    assert resolved(blocks("pred", b0="backprop"), tmp_path).topology is Topology.NEIGHBOUR
    assert resolved(blocks("dfa", b0="pred"), tmp_path).topology is Topology.BROADCAST
    assert resolved({"rule": {"name": "dfa"}, "train": {"freeze": "0-4"}}, tmp_path).topology is Topology.BROADCAST


def test_one_process_for_each_stage_goes_with_a_mixture(tmp_path):
    changes = merged(blocks("backprop", b0="pred"), {"run": {"replicas": [1, 1]}, "train": {"freeze": "0"}})
    assert resolved(changes, tmp_path).config.run.replicas == [1, 1]


def test_frozen_blocks_count_no_gradients(tmp_path):
    found = resolved({"train": {"freeze": "0-2"}}, tmp_path)
    assert found.trained_bytes[:3] == (0, 0, 0) and min(found.trained_bytes[3:]) > 0 and min(found.state_bytes) > 0


REFUSED = {
    "settling": (blocks("pred", b0="pc"), "the rule pc settles in rounds with both neighbours, and does not go with a"),
    "a target": (blocks("dtp", b0="pred"), "the rule dtp has feedback of a kind of its own, and does not go with anot"),
    "models of gradients": (blocks("backprop", b0="dni"), r"the rule dni has feedback of a kind .*block 0 under dni,"),
    "other options of it": ({"rule": {"name": "dtp", "blocks": {"1": {"step": 0.5}}}}, "another rule, or other option"),
    "a frozen target": ({"rule": {"name": "dtp"}, "train": {"freeze": "0"}}, "does not go with a frozen block .*dtp"),
    "a frozen block that settles": (
        {**blocks("pc", last="pred"), "train": {"freeze": "0-4"}},
        r"the rule pc settles in rounds .*not go with a frozen block \(given: train.freeze with block 0 under pc, exp"),
    "nobody broadcasts": (
        blocks("pred", b1="dfa"), "block 1 learns by dfa from what the last block broadcasts, .*block 5: it is under"),
    "signs and errors": (blocks("dfa", b1="sdfa"), "block 1 learns by sdfa from what .*block 5: it is under dfa"),
    "a frozen broadcaster": ({"rule": {"name": "dfa"}, "train": {"freeze": "last"}}, "block 5: it is frozen, expected"),
    "a frozen block above": (
        {**blocks("pred", b2="backprop"), "train": {"freeze": "3"}},
        "block 2 learns by backprop .*frozen under pred it returns noth"),
    "all frozen": ({"train": {"freeze": "0-last"}}, r"nothing is left to learn \(given: train.freeze names all 6 bloc"),
    "one by one without an end": (
        {"train": {"freeze": "last"}, "schedule": {"mode": "sequential"}}, "sequential mode ends with the last block"),
    "one by one with feedback": (
        {**blocks("backprop", b0="pred"), "schedule": {"mode": "sequential"}}, "mode trains blocks before .*backprop"),
    "late stages": ({"train": {"freeze": "0"}, "schedule": {"mode": "pipedream"}}, "in the mode pipedream gradients a"),
    "replicas of a mixture": (
        {**blocks("backprop", b0="pred"), "run": {"replicas": 2}}, "replicas share what blocks of one rule .*pred.bac"),
    "replicas of frozen blocks": (
        {"rule": {"name": "pred"}, "train": {"freeze": "0"}, "run": {"replicas": 2}}, "with train.freeze = \"0\", exp"),
    "emulated compute": (
        {**blocks("backprop", b0="pred"), "chaos": {"compute": "sleep", "compute_s": 0.01}}, "emulated for one way of"),
    "what is published": (
        {"rule": {"name": "readout", "blocks": {"0": {"name": "pred"}}}},
        "blocks that use what the last one publishes"),
    "what is published to a frozen block": (
        {"rule": {"name": "readout"}, "train": {"freeze": "1"}},
        r"are all of one rule .*given: train.freeze = \"1\", e"),
    "no block": ({"rule": {"name": "pred", "blocks": {"": {"dimdec": 4}}}}, r"a section is for no block .given: rule"),
    "an option of no rule": (
        {"rule": {"name": "pred", "blocks": {"0": {"beta": 0.5}}}}, r"rule.blocks.\"0\": unknown key .given: rule.bet"),
    "an option of no optimizer": (
        {"optimizer": {"name": "adam", "blocks": {"0": {"name": "sgd", "betas": [0.5, 0.5]}}}}, r"optimizer.blocks.\""),
    "a warm-up longer than the run": (
        {"optimizer": {"name": "adam", "blocks": {"1-2": {"warmup_steps": 100000}}}},
        r"optimizer.blocks.\"1-2\": the learning rate's warm-up leaves no room .given: optimizer.warmup_steps = 1000"),
    "no rule": ({"rule": {"name": "pred", "blocks": {"0": {"name": "predsin"}}}}, "unknown rule .*Did you mean 'preds"),
    "not of that form": (blocks("pred", b1="reinforce"), "the rule reinforce does not fit block 1: reinforce trains"),
    "parts of compared samples": (
        {**blocks("pred", b0="sim"), "train": {"microbatches": 2}}, r"the rule pred\+sim learns from a batch as a who"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(name, tmp_path):
    changes, text = REFUSED[name]
    with pytest.raises(ConfigError, match=text):
        resolved(changes, tmp_path)


@pytest.mark.parametrize(("mode", "rule"), [("backprop", "backprop"), ("gpipe", "backprop"), ("1f1b", "backprop")])
def test_baselines_run_backpropagation_in_place_of_a_mixture(mode, rule, tmp_path):
    found = resolved({**blocks("usf", b0="pred"), "schedule": {"mode": mode}}, tmp_path)
    assert found.config.rule.name == rule and not found.config.rule.blocks and found.routes is None
