"""Language models of eight layers: the same weights on 1, 2, 4 and 8 stages, spawned, as ranks and under torchrun."""

import json
from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from tests.support.command import call, call_ranks, launch
from tests.support.products import rare
from tests.support.runs import merged, run, sha
from tests.support.short_text import on_short_text

from pipeline.config import Config
from pipeline.config.toml_text import to_toml
from pipeline.data.windows import feed_of
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.registry import known
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
RULES = {
    "own": {"name": "aux", "norm": True}, "shared": {"name": "readout", "every": 1},
    "overlap": {"name": "interlock", "norm": True}, "backprop": {"name": "backprop"},
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A run of three steps on a short text of few bytes."""
    return {
        **on_short_text(tmp_path_factory.mktemp("text"), 8), "rule": RULES["own"],
        "train": {"epochs": 1, "batch_size": 8},
        "run": {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0},
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


@pytest.mark.parametrize(("rule", "layers"), [("own", 8), ("backprop", 8), ("backprop", 1)])
def test_one_block_or_all_under_backprop_are_plain_autograd_after_many_steps(tmp_path, text, rule, layers):
    """A single block, whatever its rule; and eight that hand gradients down, on two stages."""
    changes = {
        "rule": RULES[rule], "model": {"layers_per_block": layers}, "train": {"epochs": 7},
        "optimizer": {"clip": 0.0, "course": "constant", "warmup_steps": 0, "lr": 1e-3},
        "run": {"stages": 1 if layers == 8 else 2}, "transport": {"name": "shared_memory"},
    }  # fmt: skip
    base = merged(text, changes)
    result = run(tmp_path / "run", base=base)
    resolved = resolve(Config.from_dict(base), tmp_path)
    pairs = zip(resolved.blueprints, resolved.specs, strict=True)
    net = torch.nn.Sequential(*(build_rule(resolved.config, blueprint, spec).block for blueprint, spec in pairs))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    dataset = load_dataset(resolved.config, tmp_path)
    feed = feed_of(dataset.load()[0], dataset=dataset, batch_size=8, seed=0, device=torch.device("cpu"), train=True)
    for step in range(21):
        x, y = feed.batch(step // 3, step % 3)
        optimizer.zero_grad()
        F.cross_entropy(net(x).flatten(0, 1), y.flatten().long()).backward()
        optimizer.step()
    assert result["steps"] == 21 and result["num_blocks"] == 8 // layers
    found = [tensor for state in load_blocks(latest_weights(tmp_path / "run")) for tensor in state.values()]
    for mine, plain in zip(found, net.parameters(), strict=True):
        assert (mine - plain).abs().max() <= 1e-5 * plain.abs().max()


LEARN_TEXT = {"aux", "backprop", "dfa", "dni_rnn", "interlock", "linear_decoder", "pred", "readout", "sdfa"}


@pytest.mark.parametrize("rule", rare(known("pipeline.rules"), but=["sim", "eqprop", "fa"]))
def test_every_rule_learns_text_or_says_in_one_line_that_it_cannot(tmp_path, command, rule):
    code, out, err = call(*command("own"), "--stages", "1", f"rule={{name='{rule}'}}")
    if rule in LEARN_TEXT:
        assert (code, out, err) == (0, "", "")
    else:
        assert (code, out, err.count("\n")) == (2, "", 1), (out, err)
        assert err.startswith(f"launch.py: the rule {rule} does not fit block 0: ") and not (tmp_path / "run").exists()
