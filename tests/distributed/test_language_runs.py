"""A language model of eight blocks: the same weights on 1, 2, 4 and 8 stages, spawned, as ranks and under torchrun."""

import json
from functools import cache
from itertools import product

import pytest
from tests.support.command import call, call_ranks, launch
from tests.support.products import rare
from tests.support.runs import merged, run, sha

from pipeline.config.toml_text import to_toml
from pipeline.registry import known

pytestmark = pytest.mark.distributed
RULES = {
    "own": {"name": "aux", "norm": True}, "shared": {"name": "readout", "every": 1},
    "overlap": {"name": "interlock", "norm": True}, "backprop": {"name": "backprop"},
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A run of three steps on a short text of few bytes."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(bytes(ord("a") + k * k % 23 for k in range(1500)))
    return {
        "model": {"name": "transformer", "depth": 8, "layers_per_block": 1, "width": 8, "heads": 2},
        "dataset": {"name": "text", "path": str(path), "window": 9, "windows": 20},
        "rule": RULES["own"], "train": {"epochs": 1, "batch_size": 8},
        "run": {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0},
        "transport": {"name": "inline"},
        "optimizer": {"name": "adamw", "lr": 1e-2, "clip": 0.5, "course": "cosine", "warmup_steps": 2},
    }  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory, text):
    """The weights of each rule from one stage in this process."""
    return cache(lambda name: sha(tmp_path_factory.mktemp(name) / "run", {"rule": RULES[name]}, base=text))


USUAL = {("shared", 8, "inline"), ("shared", 4, "shared_memory")}
SPAWNED = [
    pytest.param(*case, marks=() if case in USUAL else pytest.mark.full)
    for case in product(RULES, [2, 4, 8], ["shared_memory", "process_group", "inline"])
]  # fmt: skip


@pytest.mark.parametrize(("rule", "stages", "transport"), SPAWNED)
def test_p1_eight_blocks_on_any_number_of_stages(tmp_path, text, reference, rule, stages, transport):
    changes = {"rule": RULES[rule], "run": {"stages": stages}, "transport": {"name": transport}}
    result = run(tmp_path / "run", changes, base=text)
    assert result["weights_sha256"] == reference(rule)
    assert len(result["stages"]) == stages


@pytest.fixture
def command(tmp_path, text):
    """The flags of a run of a rule, its placement left to them."""

    def found(rule):
        config = merged(text, {"rule": RULES[rule]})
        del config["run"]["stages"], config["transport"]
        (tmp_path / "lm.toml").write_text(to_toml(config))
        return ["--quiet", "--config", tmp_path / "lm.toml", "--out", tmp_path / "run"]

    return found


def sha_of(folder):
    return json.loads((folder / "result.json").read_text())["weights_sha256"]


@pytest.mark.parametrize("transport", rare(["shared_memory", "process_group"], but=["process_group"]))
@pytest.mark.parametrize("ranks", rare([2, 4, 8], but=[2]))
@pytest.mark.parametrize("rule", rare(RULES, but=["shared"]))
def test_p1_eight_blocks_as_ranks(tmp_path, command, reference, rule, ranks, transport):
    said = call_ranks(ranks, tmp_path, *command(rule), "--transport", transport)
    assert {(code, out) for code, out, _ in said} == {(0, "")}, said
    assert sha_of(tmp_path / "run") == reference(rule)


@pytest.mark.full
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_p1_eight_blocks_under_torchrun(tmp_path, command, reference, ranks):
    flags = ["--stages", "2"] if ranks == 1 else []
    code, _, err = launch(*command("shared"), *flags, ranks=ranks, timeout=240)
    assert code == 0, err
    assert sha_of(tmp_path / "run") == reference("shared")


LEARN_TEXT = {"aux", "backprop", "dfa", "dni_rnn", "interlock", "linear_decoder", "pred", "readout", "sdfa"}


@pytest.mark.parametrize("rule", rare(known("pipeline.rules"), but=["sim", "eqprop", "fa"]))
def test_every_rule_learns_text_or_says_in_one_line_that_it_cannot(tmp_path, command, rule):
    code, out, err = call(*command("own"), "--stages", "1", f"rule={{name='{rule}'}}")
    if rule in LEARN_TEXT:
        assert (code, out, err) == (0, "", "")
    else:
        assert (code, out, err.count("\n")) == (2, "", 1), (out, err)
        assert err.startswith(f"launch.py: the rule {rule} does not fit block 0: ") and not (tmp_path / "run").exists()
