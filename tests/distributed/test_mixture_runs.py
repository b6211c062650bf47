"""Mixtures of rules, optimizers and frozen blocks: what autograd says, wherever the blocks are."""

import json
from functools import cache

import pytest
from tests.support import resumes, runs
from tests.support.mixtures import MIXTURES, PLAIN, Reference
from tests.support.products import rare, square
from tests.support.trained_networks import check_loaded

from pipeline.errors import ConfigError
from pipeline.records.weights import latest_weights, load_blocks

pytestmark = pytest.mark.distributed
TINY = runs.merged(resumes.TINY, {"model": {"depth": 5}, "train": {"epochs": 2}})
"""Six blocks, with dropout and batch normalisation: whatever depends on the step must not depend on the placement."""
OPTIMIZERS = {"optimizer": {"name": "adam", "lr": 1e-2, "blocks": {
    "0": {"lr": 3e-3}, "1-2": {"name": "sgd", "lr": 0.05, "momentum": 0.9}, "last": {"betas": [0.8, 0.9], "gamma": 0.5},
}}}  # fmt: skip
EVERY = {
    **MIXTURES, "optimizers": OPTIMIZERS,
    "optimizers-of-a-mixture": {**MIXTURES["all-three"], **OPTIMIZERS, "train": {"freeze": "2"}},
    "options-of-a-rule": {"rule": {"name": "predsim", "beta": 0.9, "blocks": {"0-2": {"beta": 0.5}}}},
}  # fmt: skip
USUAL = [
    "local-beside-local", "backprop-above-local", "backprop-below-local", "local-beside-broadcast", "all-three",
    "frozen-under-dfa", "optimizers-of-a-mixture",
]  # fmt: skip


def run(out, changes, stages=1, transport="inline", base=TINY):
    placed = {"run": {"stages": stages}, "transport": {"name": transport}}
    return runs.run(out, runs.merged(changes, placed), base=base)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The weights of each mixture on one stage."""
    return cache(lambda name: run(tmp_path_factory.mktemp("one") / "run", EVERY[name])["weights_sha256"])


@pytest.mark.parametrize("name", rare(EVERY, but=[*USUAL, "frozen-above-local", "frozen-within-backprop"]))
def test_a_mixture_is_what_autograd_says(name, tmp_path):
    changes = runs.merged(EVERY[name], {"train": {**EVERY[name].get("train", {}), "epochs": 2, "batch_size": 200}})
    expected = Reference(changes, tmp_path).train()
    run(tmp_path / "run", runs.merged(PLAIN, changes), stages=2, base=runs.SMALL)
    found = load_blocks(latest_weights(tmp_path / "run"))
    for mine, plain in zip(found, expected, strict=True):
        assert mine.keys() == plain.keys()
        for key, tensor in plain.items():
            assert (mine[key] - tensor).abs().max() <= 1e-5 * tensor.abs().max()


PLACES = [(2, "shared_memory"), (3, "inline"), ("blocks", "process_group")]
OTHERS = [(2, "process_group"), (3, "shared_memory"), ("blocks", "inline"), (3, "process_group")]


RARE = [pytest.param(name, place, marks=pytest.mark.full) for name in EVERY for place in OTHERS]


@pytest.mark.parametrize(("name", "place"), [*square(USUAL, PLACES), *RARE])
def test_any_number_of_stages_over_any_transport(name, place, tmp_path, reference):
    assert run(tmp_path / "run", EVERY[name], *place)["weights_sha256"] == reference(name)


COMPARES = [name for name, changes in EVERY.items() if "sim" in json.dumps(changes.get("rule", "predsim"))]
"""Losses that compare samples take no parts of a batch."""
LATE = rare([(name, {"in_flight": 3}) for name in EVERY], but=[(n, {"in_flight": 3}) for n in ("all-three",)])
PARTS = rare(
    [(name, {"microbatches": 2}) for name in EVERY if name not in COMPARES],
    but=[(name, {"microbatches": 2}) for name in ("all-three", "backprop-right-below-the-last")],
)  # fmt: skip


@pytest.mark.parametrize("case", [*LATE, *PARTS], ids=lambda case: "-".join([case[0], *case[1]]))
def test_late_or_in_parts_it_is_the_same_on_any_number_of_stages(case, tmp_path):
    name, how = case
    changes = runs.merged(EVERY[name], {"train": {**EVERY[name].get("train", {}), **how}})
    placed = [(1, "inline"), (2, "inline"), (3, "inline"), ("blocks", "inline")]
    assert len({run(tmp_path / str(n), changes, n, transport)["weights_sha256"] for n, transport in placed}) == 1


@pytest.mark.parametrize("name", rare(EVERY, but=["all-three", "optimizers-of-a-mixture", "frozen-under-dfa"]))
def test_it_goes_on_from_any_step(name, tmp_path):
    changes = {**EVERY[name], "snapshot": {"every_steps": 1}}
    expected = resumes.written(tmp_path / "run", changes, TINY)[:4]
    for index, cut in enumerate(resumes.cuts_of(tmp_path / "run")[2:9:2]):
        placed = runs.merged(changes, {"run": {"stages": 1 + index % 3}})
        assert resumes.resumed(tmp_path / "run", cut, tmp_path / cut.name, placed, TINY)[:4] == expected


@pytest.mark.parametrize("name", rare(EVERY, but=["local-beside-local", "all-three"]))
def test_its_network_is_loaded_with_the_bits_that_were_evaluated(name, tmp_path):
    result = run(tmp_path / "run", EVERY[name], stages=2)
    check_loaded(tmp_path / "run", result, folder=tmp_path, data_root=tmp_path)


SETTINGS = {
    "autocast": {"run": {"autocast": "bfloat16"}}, "wire": {"transport": {"wire": "int8"}},
    "channels-last": {
        "run": {"channels_last": True}, "model": {"name": "tests.support.conv_net.small"},
        "dataset": {"name": "noise", "shape": [1, 8, 8], "num_classes": 10, "num_train": 40}},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_number_formats_round_it_alike_everywhere(name, tmp_path):
    setting = SETTINGS[name]
    rule = MIXTURES["all-three"]["rule"] if "model" not in setting else {
        "name": "dfa", "blocks": {"0": {"name": "backprop"}, "1": {"name": "pred"}}}  # fmt: skip
    shas = set()
    for stages in (1, 2, 3):
        changes = {**setting, "rule": rule, "transport": {**setting.get("transport", {}), "name": "inline"}}
        changes["run"] = {**setting.get("run", {}), "stages": stages}
        shas.add(runs.run(tmp_path / str(stages), changes, base=TINY)["weights_sha256"])
    assert len(shas) == 1


def test_rewards_beside_local_losses(tmp_path):
    """Blocks that draw samples: local ones, and those that learn by the last block's losses."""
    changes = {"rule": {"name": "reinforce", "blocks": {"0": {"name": "pred"}, "2": {"adjusted": True}}},
               "model": {"norm": "none", "activation": "bernoulli", "dropout": 0.0}}  # fmt: skip
    found = {run(tmp_path / str(n), changes, n)["weights_sha256"] for n in (1, 2, "blocks")}
    assert len(found) == 1


@pytest.mark.parametrize("rule", rare(["usf", "glob_sim", "straight_through", "fa"], but=["usf"]))
def test_rules_that_return_gradients_stand_in_for_backpropagation(rule, tmp_path):
    norm = {"model": {"norm": "none", "dropout": 0.0, "activation": "tanh"}}
    own = {"0": {"name": rule}, "1": {"name": "backprop"}, "3": {"name": rule}}
    changes = {**norm, "rule": {"name": "pred", "blocks": own}}
    found = {run(tmp_path / str(n), changes, n)["weights_sha256"] for n in (1, 2, "blocks")}
    assert len(found) == 1


def test_what_is_measured_of_it(tmp_path):
    changes = {**MIXTURES["all-three"], "measure": {"every": 1}, "train": {"freeze": "2"}}
    run(tmp_path / "run", changes)
    rows = json.loads((tmp_path / "run" / "measurements.json").read_text())["epochs"]
    angles = [block["angle_deg"] for block in rows[-1]["blocks"]]
    assert angles[2] is None and all(angle is not None for k, angle in enumerate(angles) if k != 2)


def test_the_result_names_the_rules(tmp_path):
    result = run(tmp_path / "run", MIXTURES["backprop-below-dfa"])
    assert result["rule"] == "backprop+dfa"


def test_sections_that_change_nothing_leave_everything_as_it_is(tmp_path):
    same = {"rule": {"name": "dfa", "blocks": {"0-2": {"name": "dfa"}}},
            "optimizer": {"name": "adam", "lr": 1e-2, "milestones": [1], "blocks": {"1": {"lr": 1e-2}}}}  # fmt: skip
    expected = run(tmp_path / "plain", {"rule": {"name": "dfa"}})
    found = run(tmp_path / "same", same, stages=3)
    assert found["weights_sha256"] == expected["weights_sha256"] and found["rule"] == "dfa"


def test_more_than_one_stage_is_laid_out_and_predicted(tmp_path):
    """By what its blocks and its stages take, measured."""
    changes = {**MIXTURES["all-three"], "train": {"freeze": "2", "epochs": 8}}
    changes["run"] = {"partition": "measured", "predict": True, "stages": 2}
    result = runs.run(tmp_path / "run", changes, base=TINY)
    assert result["predicted"]["samples_per_s"] > 0


def test_a_rule_without_a_derivative_by_its_input(tmp_path):
    changes = {"rule": {"name": "tests.support.deaf_rule", "blocks": {"0": {"name": "backprop"}}}}
    with pytest.raises(RuntimeError, match=r"block 1 gives no derivative by its input, from which block 0 is to learn"):
        run(tmp_path / "run", changes)
    silent = {"rule": {"name": "tests.support.epoch_rule", "blocks": {"0": {"name": "backprop"}}}}
    with pytest.raises(ConfigError, match=r"has no derivative by its input \(given: block 1 under tests.support"):
        run(tmp_path / "other", silent)


@pytest.mark.parametrize("name", rare(EVERY, but=["optimizers-of-a-mixture"]))
def test_an_epoch_is_chosen_by_validation_on_any_number_of_stages(name, tmp_path):
    changes = runs.merged(EVERY[name], {"dataset": {"validation": 0.25}})
    found = [run(tmp_path / str(n), changes, n) for n in (1, 2, "blocks")]
    assert len({result["weights_sha256"] for result in found}) == 1
    assert found[0]["selection"] == found[2]["selection"]
