"""A batch that a block leaves out: as though it had not been there, beside a loop in one process."""

import copy
import json

import pytest
import torch
from tests.support.poison import NUM_TRAIN
from tests.support.resumes import cuts_of, resumed, written
from tests.support.runs import SMALL, merged, run

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive, mix, reseed
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

OPTIMIZERS = {
    "adam": {"name": "adam", "lr": 0.01}, "adamw": {"name": "adamw", "lr": 0.01},
    "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "rprop": {"name": "rprop", "lr": 0.01},
    "rmsprop": {"name": "rmsprop", "lr": 0.01}, "adagrad": {"name": "adagrad", "lr": 0.01},
}  # fmt: skip
EPOCHS, BATCH = 3, 10
STEPS = NUM_TRAIN // BATCH


def poison(model="poisoned", rule="pred", optimizer="adam", **changes):
    table = {
        "dataset": {"name": "tests.support.poison", "bad": [17, 40]}, "rule": {"name": rule},
        "model": {"name": f"tests.support.poison.{model}"}, "optimizer": {**OPTIMIZERS[optimizer], "milestones": []},
        "train": {"epochs": EPOCHS, "batch_size": BATCH, "nonfinite": "skip"},
    }  # fmt: skip
    return {**table, **{key: {**table.get(key, {}), **value} for key, value in changes.items()}}


def reference(changes, data_root):
    """Every block's state after a loop that takes back what a bad batch did, and how many it took back of each."""
    found = resolve(Config.from_dict(merged(SMALL, changes)), data_root)
    seed, blocks = found.config.seed, range(found.num_blocks)
    rules = [build_rule(found.config, found.blueprints[k], found.specs[k]) for k in blocks]
    optimizers = [found.optimizer.build(rule.parameters()) for rule in rules]
    dataset = load_dataset(found.config, data_root)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=BATCH, seed=seed, device="cpu", train=True)
    skipped = [0] * len(rules)
    for step in range(EPOCHS * STEPS):
        x, y = feed.batch(step // STEPS, step % STEPS)
        for k in blocks:
            before = copy.deepcopy((rules[k].state_dict(), optimizers[k].state_dict()))
            reseed(mix(derive(seed, "forward", k), step), torch.device("cpu"))
            x, context = rules[k](x, y)
            reseed(mix(derive(seed, "learn", k), step), torch.device("cpu"))
            loss = rules[k].learn(context, ()).loss
            gradients = [p.grad for p in rules[k].parameters() if p.grad is not None]
            if all(bool(t.isfinite().all()) for t in (loss, *gradients)):
                optimizers[k].step()
            else:
                skipped[k] += 1
                rules[k].load_state_dict(before[0])
                optimizers[k].load_state_dict(before[1])
            optimizers[k].zero_grad()
    return [rule.state_dict() for rule in rules], skipped


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_skips_is_a_loop_that_takes_back(tmp_path, optimizer):
    changes = poison(optimizer=optimizer)
    states, skipped = reference(changes, tmp_path)
    assert skipped[1] > skipped[0] > 0 and skipped[1] < EPOCHS * STEPS - 2
    for stages in (1, 2, "blocks"):
        out = tmp_path / str(stages)
        table = run(out, {**changes, "run": {"stages": stages}})
        assert [block["skipped_batches"] for block in table["blocks"]] == skipped
        for state, wanted in zip(load_blocks(latest_weights(out)), states, strict=True):
            assert {name: torch.equal(state[name], wanted[name]) for name in wanted} == dict.fromkeys(wanted, True)


@pytest.mark.parametrize("rule", ["pred", "predsim", "linear_decoder", "drtp", "dfa", "fa", "backprop", "sdfa"])
@pytest.mark.parametrize("learn_after", ["block", "stage"])
def test_the_same_weights_on_any_number_of_stages(tmp_path, rule, learn_after):
    tables = [
        run(tmp_path / str(n), poison(rule=rule, run={"stages": n, "learn_after": learn_after})) for n in (1, 2, 3)
    ]
    assert len({table["weights_sha256"] for table in tables}) == 1
    counts = [[block["skipped_batches"] for block in table["blocks"]] for table in tables]
    assert counts[0] == counts[1] == counts[2] and min(counts[0]) > 0
    assert all(t.isfinite().all() for state in load_blocks(latest_weights(tmp_path / "1")) for t in state.values())


@pytest.mark.parametrize("mode", ["gpipe", "1f1b"])
def test_a_batch_in_parts_is_left_out_whole(tmp_path, mode):
    changes = {"schedule": {"mode": mode}, "rule": "backprop", "train": {"microbatches": 2}}
    tables = [run(tmp_path / str(n), poison(**changes, run={"stages": n})) for n in (1, 3)]
    assert tables[0]["weights_sha256"] == tables[1]["weights_sha256"]
    assert all(0 < block["skipped_batches"] < EPOCHS * STEPS for block in tables[0]["blocks"])


def test_where_nothing_is_bad_nothing_changes(tmp_path):
    good = {"dataset": {"bad": []}, "run": {"stages": 2}}
    tables = [
        run(tmp_path / policy, poison("masked", **good, train={"nonfinite": policy})) for policy in ("skip", "stop")
    ]
    assert tables[0]["weights_sha256"] == tables[1]["weights_sha256"]
    assert "skipped_batches" not in tables[0]["blocks"][0]


def test_a_skipped_batch_counts_in_no_mean(tmp_path):
    run(tmp_path / "run", poison("masked", rule="pred", train={"epochs": 1}))
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    epoch = next(row for row in rows if row["event"] == "epoch")
    skipped = epoch["blocks"][0]["skipped"]
    assert skipped in (1, 2) and [block["skipped"] for block in epoch["blocks"]] == [skipped] * 3
    assert all(0 < block["train_loss"] < 10 for block in epoch["blocks"])
    assert epoch["staleness"]["counts"] == [3 * (STEPS - skipped)]


@pytest.mark.parametrize(
    ("changes", "given"),
    [({"rule": "dfa", "train": {"in_flight": 2}}, "train.in_flight = 2"),
     ({"schedule": {"mode": "pipedream"}}, "mode pipedream")],
)  # fmt: skip
def test_batches_that_overlap_cannot_be_left_out(tmp_path, changes, given):
    with pytest.raises(ConfigError, match=f"a batch cannot be left out while the next is under way .*{given}"):
        run(tmp_path / "run", poison(**changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rule", ["pred", "backprop"])  # under the second, hidden blocks have no loss of their own
def test_batches_are_left_out_on_both_sides_of_any_cut(tmp_path, rule):
    """A run that is taken up inside an epoch skips, and counts, what it would have."""
    changes = poison("poisoned", rule, snapshot={"every_steps": 1, "keep": 1000})
    reference = written(tmp_path / "run", changes, SMALL)[:4]
    counts = skipped_in(tmp_path / "run")
    assert min(counts) > 0
    for index, cut in enumerate(cuts_of(tmp_path / "run")[:: 1 if rule == "pred" else 3]):
        out = tmp_path / cut.name
        again = resumed(tmp_path / "run", cut, out, {**changes, "run": {"stages": 1 + index % 3}}, SMALL)
        assert again[:4] == reference and skipped_in(out) == counts, cut.name


def skipped_in(out):
    return [block.get("skipped_batches", 0) for block in json.loads((out / "result.json").read_text())["blocks"]]
