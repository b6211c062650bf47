"""Text, sequences and numbers: the same weights wherever the blocks are, and autograd's own where it is the oracle."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.support.command import call
from tests.support.products import square
from tests.support.resumes import cuts_of, resumed, written
from tests.support.runs import merged, run, sha
from torch import nn

import onward
from pipeline.config import Config
from pipeline.data.windows import feed_of
from pipeline.measure.whole_network import WholeNetwork
from pipeline.network.block import build_block
from pipeline.optim.optimizers import load_optimizer
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import load_dataset, resolve

pytestmark = pytest.mark.distributed
ADAM = {"name": "adam", "lr": 1e-2}
RUN = {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0}
TRANSFORMER = {"name": "transformer", "depth": 4, "layers_per_block": 1, "width": 8, "heads": 2}
FOUR_LINEAR = {"name": "tests.support.position_net"}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A run on a short text of few bytes: two epochs of three steps, the last of which is smaller."""
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(bytes(ord("a") + k * k % 23 for k in range(1500)))
    return {
        "model": TRANSFORMER, "dataset": {"name": "text", "path": str(path), "window": 9, "windows": 20},
        "rule": {"name": "pred"}, "optimizer": ADAM, "train": {"epochs": 2, "batch_size": 8}, "run": RUN,
        "transport": {"name": "inline"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory, text):
    """The weights of each rule and model from one stage in this process."""

    @cache
    def found(rule, model):
        changes = {"rule": {"name": rule}, "model": FOUR_LINEAR if model == "linear" else TRANSFORMER}
        return sha(tmp_path_factory.mktemp(rule) / "run", changes, base=text)

    return found


def placed(out, base, stages, transport="shared_memory", **changes):
    transport = {**base["transport"], "name": transport}
    return sha(out, {"run": {"stages": stages}, "transport": transport, **changes}, base=base)


STAGES, TRANSPORTS = [2, 3, "blocks"], ["inline", "shared_memory", "process_group"]


@pytest.mark.parametrize(
    ("rule", "stages", "transport"), square(["pred", "dfa", "backprop", "linear_decoder", "sdfa"], STAGES, TRANSPORTS)
)
def test_p1_a_transformer_on_any_number_of_stages_over_any_transport(
    tmp_path, text, reference, rule, stages, transport
):
    found = placed(tmp_path / "run", text, stages, transport, rule={"name": rule})
    assert found == reference(rule, "transformer")


@pytest.mark.parametrize(("rule", "stages"), square(["fa", "usf", "brsf", "frsf"], STAGES))
def test_p1_blocks_of_one_linear_layer_over_tokens(tmp_path, text, reference, rule, stages):
    found = placed(tmp_path / "run", text, stages, rule={"name": rule}, model=FOUR_LINEAR)
    assert found == reference(rule, "linear")


@pytest.mark.parametrize(
    "changes",
    [
        {"transport": {"wire": "int8"}},
        {"rule": {"name": "dfa"}, "train": {"in_flight": 3}},
        {"rule": {"name": "backprop"}, "train": {"microbatches": 4}, "schedule": {"mode": "1f1b"}},
        {"rule": {"name": "pred"}, "train": {"microbatches": 3}},
    ],
    ids=["int8", "in-flight", "1f1b", "microbatches"],
)
def test_other_ways_to_run_are_placement_free_too(tmp_path, text, changes):
    first = sha(tmp_path / "one", changes, base=text)
    base = merged(text, changes)
    assert placed(tmp_path / "three", base, 3) == first
    assert first != sha(tmp_path / "plain", {"rule": changes.get("rule", {"name": "pred"})}, base=text)


@pytest.mark.parametrize("wire", ["int8", "bfloat16"])
def test_no_position_depends_on_later_ones_over_a_wire_either(tmp_path, text, wire):
    base = merged(text, {"transport": {"wire": wire}})
    run(tmp_path / "run", base=base)
    states = load_blocks(latest_weights(tmp_path / "run"))
    network = WholeNetwork(resolve(Config.from_dict(base), tmp_path), 2, states, torch.device("cpu"))
    x, y = next(feed.batch(0, 0) for feed in _feeds(text, tmp_path))
    changed = x.clone()
    changed[:, 5:] = (changed[:, 5:] + 7) % 256
    for one, other in zip(network.look(x, y), network.look(changed, y), strict=True):
        assert torch.equal(one[:, :5], other[:, :5]) and not torch.equal(one[:, 5:], other[:, 5:])


def test_a_run_on_text_goes_on_from_the_middle_of_an_epoch(tmp_path, text):
    base = merged(text, {"snapshot": {"every_steps": 1, "keep": 100}})
    expected = written(tmp_path / "run", {}, base)[:4]
    for index, cut in enumerate(cuts_of(tmp_path / "run")[1:6:2]):
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, {"run": {"stages": index + 1}}, base)[:4] == expected


def test_another_seed_draws_other_windows_but_the_same_text_is_tested(tmp_path, text):
    (one, test), (other, same) = (_feeds({**text, "seed": seed}, tmp_path) for seed in (0, 1))
    assert [len(feed.arrays[0]) for feed in (one, test)] == [1349, 16]
    assert all(one.batch(0, 0)[k].ne(other.batch(0, 0)[k]).any(1).all() for k in (0, 1))
    for k in range(test.num_batches):
        assert all(map(torch.equal, test.batch(0, k), same.batch(0, k)))


def _feeds(base, folder):
    config = Config.from_dict(base)
    dataset = load_dataset(config, folder)
    options = {"dataset": dataset, "seed": config.seed, "device": "cpu"}
    train, test = dataset.load()
    return [feed_of(split, batch_size=8, train=split is train, **options) for split in (train, test)]


@pytest.mark.parametrize("stages", [1, 3])
def test_backprop_on_text_is_autograd_and_its_scores_are_those_of_the_weights(tmp_path, text, stages):
    changes = {"rule": {"name": "backprop"}, "run": {"stages": stages}, "transport": {"name": "shared_memory"}}
    base = merged(text, changes)
    result = run(tmp_path / "run", base=base)
    resolved = resolve(Config.from_dict(base), tmp_path)
    net = torch.nn.Sequential(*(build_block(b, 0, k) for k, b in enumerate(resolved.blueprints)))
    optimizer = load_optimizer("adam", {"lr": 1e-2}).build(net.parameters())
    train, test = _feeds(base, tmp_path)
    for epoch in range(2):
        for index in range(train.num_batches):
            x, y = train.batch(epoch, index)
            optimizer.zero_grad()
            F.cross_entropy(net(x).flatten(0, 1), y.flatten().long()).backward()
            optimizer.step()
    found = [tensor for state in load_blocks(latest_weights(tmp_path / "run")) for tensor in state.values()]
    for mine, plain in zip(found, net.parameters(), strict=True):
        assert (mine - plain).abs().max() <= 1e-5 * plain.abs().max()
    with torch.no_grad():
        batches = [test.batch(0, k) for k in range(test.num_batches)]
        losses = [F.cross_entropy(net(x).flatten(0, 1), y.flatten().long(), reduction="sum") for x, y in batches]
        right = sum((net(x).argmax(2) == y).sum() for x, y in batches)
    bits = float(sum(losses)) / (16 * 9) / np.log(2)
    assert result["test"]["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert result["test"]["accuracy"] == right / (16 * 9)


SERIES = {
    "sine": ({"name": "sine", "length": 12, "num_train": 20, "num_test": 6}, {"name": "rnn", "depth": 3, "width": 6}),
    "copy": ({"name": "delayed_copy", "length": 7, "num_train": 20, "num_test": 6},
             {"name": "rnn", "depth": 3, "width": 6, "cell": "gru"}),
    "arrays": ({"name": "arrays", "path": "a.npz"}, {"name": "mlp", "depth": 3, "width": 6, "norm": "none"}),
}  # fmt: skip


def series(folder, kind):
    """A run on numbers or symbols; the arrays lie in ``folder``."""
    rng = np.random.default_rng(0)
    arrays = {f"{a}_{s}": rng.normal(size=(n, 3)) for a in "xy" for s, n in (("train", 20), ("test", 6))}
    np.savez(folder / "a.npz", **arrays)
    dataset, model = SERIES[kind]
    dataset = {**dataset, "path": str(folder / "a.npz")} if kind == "arrays" else dataset
    return {"model": model, "dataset": dataset, "optimizer": ADAM, "train": {"epochs": 2, "batch_size": 8},
            "run": RUN, "transport": {"name": "inline"}}  # fmt: skip


@pytest.mark.parametrize(("kind", "rule"), square(list(SERIES), ["pred", "dfa", "backprop", "linear_decoder"]))
def test_p1_numbers_and_symbols(tmp_path, kind, rule):
    base = merged(series(tmp_path, kind), {"rule": {"name": rule}})
    first = run(tmp_path / "one", base=base)
    assert {placed(tmp_path / str(n), base, n) for n in (2, "blocks")} == {first["weights_sha256"]}
    expected = {"copy": {"accuracy", "loss", "perplexity"}}.get(kind, {"accuracy", "loss", "mse"})
    assert set(first["test"]) == expected
    assert (first["test"]["accuracy"] is None) == (kind != "copy")


def test_kept_inputs_of_blocks_above_frozen_ones_change_nothing(tmp_path):
    changes = {"rule": {"name": "linear_decoder"}, "schedule": {"mode": "sequential", "patience": 1, "tolerance": 0.5}}
    base = merged(series(tmp_path, "copy"), changes)
    kept = sha(tmp_path / "kept", base=base)
    assert kept == sha(tmp_path / "anew", {"schedule": {"cache": "off"}}, base=base)
    assert kept == placed(tmp_path / "placed", base, 3)
    for name, begins in [("kept", {0, 1, 2, 3}), ("anew", {0})]:
        rows = [json.loads(line) for line in (tmp_path / name / "record.jsonl").read_text().splitlines()]
        assert {row["blocks"][0]["block"] for row in rows if row["event"] == "epoch"} == begins, name


def test_every_block_reports_its_own_bits_per_byte(tmp_path, text):
    result = run(tmp_path / "run", base=text)
    bits = [b["test_metrics"]["bits_per_byte"] for b in result["blocks"]]
    assert len(bits) == 4 and bits[-1] == result["test"]["bits_per_byte"] and all(0 < b < 8 for b in bits)


TOKENS = ["dataset.name=text", "model.name=transformer", "rule.name=pred"]
WRONG = {
    "no text": ([*TOKENS, "dataset.path=nowhere.txt"], "there is no text", "leave dataset.path out"),
    "an empty text": ([*TOKENS, "dataset.path=empty.txt"], "too short for its windows", "given: "),
    "a window too long": ([*TOKENS, "dataset.window=100000"], "too short for its windows", "Lower dataset.window"),
    "a rule that compares samples": (
        [*TOKENS, "rule.name=sim"], "the rule sim does not fit block 0: it learns from one", "e.g. linear_decoder"),
    "a rule that looks classes up": (
        [*TOKENS, "rule.name=drtp"], "it learns from one class for each sample only", "docs/tasks.md"),
    "a vocabulary too small": (
        [*TOKENS, "model.vocabulary=128"], "the vocabulary is too small (given: block 0, ", "at least 256 rows"),
    "pictures for a transformer": (
        ["model.name=transformer"], "a transformer reads tokens", "the data set text"),
    "tokens for a linear layer": (["dataset.name=text", "rule.name=pred"], "a block cannot run", "Change this block"),
    "logistic outputs at positions": ([*TOKENS, "train.loss=logistic"], "logistic outputs need one class", "Leave"),
    "measurements of text": ([*TOKENS, "measure.every=1"], "only samples with one class or numbers each are", "to 0"),
    "one label and a read-out at each step": (
        ["dataset.name=sine", "model.name=rnn", "model.reads=last", "rule.name=pred"],
        "does not return the scores that the task needs (given: (1,)", "expected: (200, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_message_and_exit_code_2(tmp_path, name):
    arguments, *texts = WRONG[name]
    (tmp_path / "empty.txt").write_bytes(b"")
    code, out, err = call("--out", tmp_path / "run", "--data-root", tmp_path, "--stages", "1", *arguments)
    assert code == 2 and out == "" and err.startswith("launch.py: ") and err.count("\n") == 1, err
    assert all(text in err for text in texts), err
    assert not (tmp_path / "run").exists()


def test_a_run_on_text_says_what_it_has_learned(tmp_path, text):
    path = tmp_path / "abcd.txt"
    path.write_bytes(b"abcd" * 300)
    dataset = {"name": "text", "path": str(path), "window": 8, "windows": 320}
    changes = {"model": FOUR_LINEAR, "dataset": dataset, "rule": {"name": "backprop"}, "train": {"epochs": 8}}
    run(tmp_path / "run", changes, base=text)
    code, out, err = call("--resume", tmp_path / "run", "--generate", "21")
    assert (code, err) == (0, "") and len(out) == 22
    assert out.strip()[1:] in "abcd" * 9
    assert call("--resume", tmp_path / "run", "--generate", "21")[1] == out


def test_a_network_that_was_handed_over_makes_text(tmp_path, text):
    model = nn.Sequential(nn.Embedding(256, 8), nn.Linear(8, 256))
    changes = {"rule": {"name": "backprop"}, "train": {"epochs": 1}, "run": {"stages": 1}}
    table = {k: v for k, v in merged(text, changes).items() if k != "model"}
    onward.train(table, model=model, out=tmp_path / "run", data_root=tmp_path, quiet=True)
    code, out, err = call("--resume", tmp_path / "run", "--generate", "5")
    assert (code, err) == (0, "") and len(out) == 6
    facts = tmp_path / "run" / "network.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "structure": None}))
    code, out, err = call("--resume", tmp_path / "run", "--generate", "5")
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert err.startswith("launch.py: the network was handed over as an object, and the run has no description of it")


def test_a_run_that_was_ended_from_outside_makes_no_text(tmp_path, text):
    """Its newest weights are those of some step, and look like the last."""
    run(tmp_path / "run", {"train": {"epochs": 2}, "snapshot": {"keep": 2}}, base=text)
    (tmp_path / "run" / "result.json").unlink()
    code, out, err = call("--resume", tmp_path / "run", "--generate", "5")
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert err.startswith("launch.py: the run is not complete (given: ") and "Finish it with --resume" in err


@pytest.mark.parametrize("change", ["dataset.window=16", "model.depth=2", "model.width=16"])
def test_weights_of_another_network_make_no_text(tmp_path, text, change):
    run(tmp_path / "run", {"train": {"epochs": 1}}, base=text)
    code, out, err = call("--resume", tmp_path / "run", "--generate", "9", change)
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert err.startswith("launch.py: the weights are of another network (given: --resume ") and "Leave the" in err


def test_a_network_whose_scores_are_not_finite_makes_no_text(tmp_path, text):
    changes = {"train": {"epochs": 1, "nonfinite": "ignore"}, "optimizer": {"lr": 1e30}}
    run(tmp_path / "run", changes, base=text)
    code, out, err = call("--resume", tmp_path / "run", "--generate", "9")
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert err.startswith("launch.py: this network's scores are not finite (given: its weights and 1 bytes of text")


def test_a_run_makes_text_without_the_run_that_it_began_from(tmp_path, text):
    run(tmp_path / "old", {"train": {"epochs": 1}}, base=text)
    run(tmp_path / "run", {"train": {"epochs": 1, "init_from": str(tmp_path / "old")}}, base=text)
    shutil.rmtree(tmp_path / "old")
    code, out, err = call("--resume", tmp_path / "run", "--generate", "9")
    assert (code, err) == (0, "") and out


def test_what_makes_no_text_says_so(tmp_path):
    run(tmp_path / "copy", {"rule": {"name": "pred"}}, base=series(tmp_path, "copy"))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").write_text((tmp_path / "copy" / "config.toml").read_text())
    for arguments, expected in [
        (["--generate", "9"], "nothing can be generated (given: --generate 9, no run; expected: at least 1"),
        (["--generate", "0", "--resume", tmp_path / "copy"], "nothing can be generated (given: --generate 0, --resume"),
        (["--generate", "9", "--resume", tmp_path / "copy"], "this run makes no text (given: the data set delayed_c"),
        (["--generate", "9", "--resume", tmp_path / "begun"], "the run is not complete (given: "),
        (["--generate", "9", "--plan"], "a plan generates nothing (given: --plan with --generate). Leave one"),
        *((["--generate", "9", "--resume", tmp_path / "copy", *flags], f"text is made by one process on the CPU, which "
           f"records nothing (given: --generate with {flags[0]}). Leave one of them out.")
          for flags in (["--out", tmp_path], ["--stages", "2"], ["--trace"], ["--transport", "inline"],
                        ["--device", "cpu"])),
    ]:
        code, out, err = call(*arguments)
        assert (code, out) == (2, "") and err.startswith(f"launch.py: {expected}") and err.count("\n") == 1, err
