"""Replicas of a stage learn what one process learns from as many micro-batches, bit for bit, wherever they are."""

import json
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
from tests.distributed.test_failures import kill_stage
from tests.support.command import call, call_ranks
from tests.support.products import rare, square
from tests.support.resumes import cuts_of, learned, resumed, written
from tests.support.runs import run

from pipeline.engine import exchange
from pipeline.records.snapshots import Manifest
from pipeline.registry import known

pytestmark = pytest.mark.distributed

RULES = ["pred", "linear_decoder", "dfa", "backprop"]
PLACES = [  # micro-batches, replicas of each stage, transport
    (2, [2], "shared_memory"), (2, [1, 2, 1], "process_group"), (2, [2, 2], "inline"), (3, [3], "process_group"),
    (6, [2, 3, 1], "shared_memory"), (4, [2, 1], "inline"), (3, [1, 3], "shared_memory"),
    (4, [1, 4, 2], "process_group"),
]  # fmt: skip
SEVERAL = {
    "pred_bio": {}, "drtp": {}, "sdfa": {}, "fa": {}, "frsf": {}, "usf": {}, "brsf": {},
    "ifa": {"norm": "none", "activation": "tanh", "dropout": 0.0},
    "tp": {"norm": "none", "activation": "tanh", "dropout": 0.0},
    "dtp": {"norm": "none", "activation": "tanh", "dropout": 0.0},
    "lra_fdbk": {"norm": "none", "activation": "tanh", "dropout": 0.0},
    "lra_rnn": {"norm": "none", "activation": "tanh", "dropout": 0.0}, "dni_rnn": {},
    "lra_diff": {"norm": "none", "activation": "tanh", "dropout": 0.0, "boundary": "half"},
    "reinforce": {"norm": "none", "activation": "bernoulli", "dropout": 0.0},
    "straight_through": {"norm": "none", "activation": "bernoulli", "dropout": 0.0},
    "slope_annealing": {"norm": "none", "activation": "bernoulli", "dropout": 0.0},
    "sigmoid_adjusted": {"norm": "none", "activation": "bernoulli", "dropout": 0.0},
    "pc": {"norm": "none", "activation": "tanh", "dropout": 0.0}, "dni": {}, "am": {}, "aux": {}, "interlock": {},
    "eqprop": {"norm": "none", "activation": "tanh", "dropout": 0.0},
    "tests.support.synthetic_gradients": {"norm": "none"}, "tests.support.settling_rule": {"norm": "none"},
}  # fmt: skip
"""Models with which rules can be tried; batch normalisation, dropout and augmentation where they allow it."""
SHORT = {
    "dataset": {"name": "noise", "shape": [1, 6, 6], "num_train": 25, "num_test": 30, "num_classes": 4},
    "model": {"depth": 3, "width": 12, "norm": "none"}, "train": {"epochs": 2, "batch_size": 12},
}  # fmt: skip
"""The last batch of an epoch has a single sample."""


def changes(rule, microbatches, replicas, transport="inline", mode=None, **more):
    """A run of a stage for each number in ``replicas``."""
    return {
        "rule": {"name": rule}, "schedule": {"mode": mode or ("gpipe" if rule == "backprop" else "parallel")},
        "train": {"microbatches": microbatches}, "run": {"stages": len(replicas), "replicas": replicas},
        "transport": {"name": transport}, **more,
    }  # fmt: skip


def scores(table, out):
    """Weights and every score of every epoch."""
    return learned(out)[:2] + (table["test"],)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """What one process learns from so many micro-batches."""

    @cache
    def learn(rule, microbatches):
        out = tmp_path_factory.mktemp("one") / "run"
        return scores(run(out, changes(rule, microbatches, [1])), out)

    return learn


@pytest.mark.parametrize(("rule", "place"), square(RULES, PLACES))
def test_replicas_are_micro_batches_bit_for_bit(tmp_path, reference, rule, place):
    """With batch normalisation, dropout and augmentation; losses and accuracies to the last bit, too."""
    table = run(tmp_path / "run", changes(rule, *place))
    assert scores(table, tmp_path / "run") == reference(rule, place[0])
    assert (table["replicas"], table["num_stages"]) == (place[1], len(place[1]))
    rows = [(row["stage"], row["replica"]) for row in table["stages"]]
    assert rows == [(s, r) for s, count in enumerate(place[1]) for r in range(count)]


@pytest.mark.parametrize("rule", rare(RULES, but=["dfa", "backprop"]))
def test_with_random_delays(tmp_path, reference, rule):
    table = changes(rule, 6, [2, 3, 1], "tests.support.slow_shared_memory.build")
    assert scores(run(tmp_path / "run", table), tmp_path / "run") == reference(rule, 6)


@pytest.mark.parametrize("rule", ["pred", "dfa"])
def test_gradients_in_many_small_buckets(tmp_path, reference, rule, monkeypatch):
    """As those of large blocks are: one for each block, summed while the next one learns."""
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 1)
    for place in ((6, [2, 3, 1], "inline"), (6, [1, 2], "inline")):
        out = tmp_path / str(place[1])
        assert scores(run(out, changes(rule, *place)), out) == reference(rule, 6)


def test_a_run_with_replicas_is_measured(tmp_path):
    tables = []
    for counts in ([1], [1, 2]):
        run(tmp_path / str(counts), changes("pred", 2, counts, measure={"every": 1, "readout_samples": 100}))
        tables.append(json.loads((tmp_path / str(counts) / "measurements.json").read_text()))
    assert tables[0] == tables[1]


def test_no_rule_is_forgotten():
    without_parts = {"am_mem", "sim", "sim_bio", "predsim", "predsim_bio", "glob_sim", "readout"}
    assert {name for name in SEVERAL if "." not in name} == set(known("pipeline.rules")) - set(RULES) - without_parts


OTHERS = ["dtp", "ifa", "sdfa", "usf", "dni", "pc", "eqprop", "am", "reinforce"]


@pytest.mark.parametrize("rule", rare(sorted(SEVERAL), but=OTHERS))
def test_every_other_rule_that_allows_micro_batches(tmp_path, rule):
    more = {"model": SEVERAL[rule]} | ({"dataset": {"crop_padding": 0}} if SEVERAL[rule] else {})
    one = run(tmp_path / "one", changes(rule, 4, [1], **more))
    several = run(tmp_path / "several", changes(rule, 4, [2, 1, 4], **more))
    assert several["weights_sha256"] == one["weights_sha256"] and several["test"] == one["test"]


@pytest.mark.parametrize("rule", rare(RULES, but=["pred", "backprop"]))
@pytest.mark.parametrize("microbatches", [2, 6])
def test_a_batch_of_fewer_samples_than_micro_batches(tmp_path, rule, microbatches):
    """Then some replicas are dealt nothing, and still take the step."""
    short = {**SHORT, "train": {**SHORT["train"], "microbatches": microbatches}}
    one, several = (
        run(tmp_path / str(counts), changes(rule, microbatches, counts, **short)) for counts in ([1], [2, 1, 2])
    )
    assert several["weights_sha256"] == one["weights_sha256"]
    assert learned(tmp_path / "[2, 1, 2]")[1] == learned(tmp_path / "[1]")[1]


@pytest.mark.parametrize("mode", ["gpipe", "1f1b"])
def test_modes_of_backpropagation(tmp_path, mode):
    one = run(tmp_path / "one", changes("backprop", 4, [1], mode=mode))
    for index, counts in enumerate(([2, 2], [1, 4, 1], [4])):
        several = run(tmp_path / str(index), changes("backprop", 4, counts, mode=mode))
        assert several["weights_sha256"] == one["weights_sha256"]


@pytest.mark.parametrize(("rule", "depth", "width", "microbatches"), [("dni", 14, 8, 12), ("interlock", 16, 5, 16)])
def test_narrow_blocks_that_send_before_and_after_feedback(tmp_path, rule, depth, width, microbatches):
    """Of which what travels along with the gradients is longer than they: both replicas waited for room for ever."""
    data = {"name": "noise", "shape": [1, 2, 2], "num_train": 64, "num_test": 30, "num_classes": 2}
    model = {"depth": depth, "width": width, "norm": "none", "dropout": 0.0}
    found = []
    for counts, transport in (([1], "inline"), ([2], "shared_memory")):
        table = changes(rule, microbatches, counts, transport, dataset=data, model=model)
        table["train"] = {"microbatches": microbatches, "batch_size": 64, "epochs": 1}
        found.append(run(tmp_path / transport, table)["weights_sha256"])
    assert found[0] == found[1]


@pytest.mark.parametrize("transport", rare(["shared_memory", "process_group"], but=["shared_memory"]))
def test_an_evaluation_may_take_longer_than_the_longest_wait(tmp_path, transport):
    """50 test batches of 0.05 s with a limit of 2 s: replicas that sit it out wait for a batch at a time."""
    data = {"name": "noise", "shape": [1, 2, 2], "num_train": 64, "num_test": 100, "num_classes": 2}
    slow = {"name": "tests.support.slow_evaluation"}
    table = changes("linear_decoder", 2, [2, 2], transport, dataset=data, model=slow)
    table["train"] = {"microbatches": 2, "batch_size": 64, "eval_batch_size": 2, "epochs": 2}
    table["run"] = {**table["run"], "timeout_s": 2.0}
    found = run(tmp_path / "run", {**table, "restart": {"max_restarts": 0}})
    assert found["status"] == "completed" and found["epochs"] == 2
    one = {**table, "model": {**slow, "num_batches": 0}, "run": {"stages": 1}, "transport": {"name": "inline"}}
    assert run(tmp_path / "one", one)["weights_sha256"] == found["weights_sha256"]


@pytest.mark.parametrize("key", ["learn_after", "channels_last", "autocast", "closed_form"])
def test_other_options_of_a_run(tmp_path, key):
    value = {"learn_after": "stage", "channels_last": True, "autocast": "bfloat16", "closed_form": False}[key]
    net = {"name": "vgg8b", "width": 0.0625} if key == "channels_last" else {}
    data = {"name": "noise", "num_train": 24, "num_test": 8, "shape": [3, 32, 32]} if net else {}
    found = []
    for counts in ([1], [1, 2]):
        table = changes("pred", 2, counts, model=net)
        table = {**table, **({"dataset": data} if data else {}), "run": {**table["run"], key: value}}
        table["train"] = {**table["train"], "batch_size": 8 if data else 100}
        found.append(run(tmp_path / str(counts), table)["weights_sha256"])
    assert found[0] == found[1]


@pytest.mark.parametrize("replicas", [2, [2, 1]])
def test_micro_batches_that_replicas_imply_are_written_down(tmp_path, replicas):
    stages = 1 if replicas == 2 else 2
    implied = run(tmp_path / "implied", {"rule": {"name": "pred"}, "run": {"stages": stages, "replicas": replicas}})
    assert implied["weights_sha256"] == run(tmp_path / "one", changes("pred", 2, [1]))["weights_sha256"]
    written_down = tomllib.loads((tmp_path / "implied" / "config.toml").read_text())
    assert written_down["train"]["microbatches"] == 2 and written_down["run"]["replicas"] == replicas


SKIPPING = {
    "dataset": {"name": "tests.support.poison", "bad": [17, 40]}, "model": {"name": "tests.support.poison.poisoned"},
    "optimizer": {"name": "adam", "lr": 0.01, "milestones": []},
    "train": {"epochs": 3, "batch_size": 10, "nonfinite": "skip", "microbatches": 2},
}  # fmt: skip


@pytest.mark.parametrize("rule", rare(RULES, but=["pred", "dfa"]))
def test_replicas_leave_out_the_same_batches(tmp_path, rule):
    tables = []
    for counts in ([1], [2, 1], [2]):
        table = {**SKIPPING, "rule": {"name": rule}, "run": {"stages": len(counts), "replicas": counts}}
        if rule == "backprop":
            table["schedule"] = {"mode": "gpipe"}
        tables.append(run(tmp_path / str(counts), table))
    skipped = [[block.get("skipped_batches", 0) for block in table["blocks"]] for table in tables]
    assert any(skipped[0]) and skipped[1:] == skipped[:1] * 2
    assert len({table["weights_sha256"] for table in tables}) == 1


FAR = ["--quiet", "optimizer.name=sgd", "optimizer.lr=1e30", "run.threads=1", "run.predict=false", "train.epochs=200",
       "train.microbatches=2"]  # fmt: skip


def test_a_number_that_is_none_is_named_the_same(tmp_path):
    said = []
    for index, more in enumerate((["--stages", "1"], ["--stages", "2", "run.replicas=[1, 2]"])):
        code, _, err = call(*FAR, "rule.name=pred", "--out", tmp_path / str(index), *more)
        assert code == 1
        said.append([line for line in err.splitlines() if line.startswith("launch.py:")])
    assert said[0] == said[1] and len(said[0]) == 1


SAVED = {"snapshot": {"every_steps": 2}, "train": {"epochs": 2, "microbatches": 2}}


@pytest.mark.parametrize("rule", ["pred", "dfa"])
def test_a_run_goes_on_with_other_replicas(tmp_path, rule):
    """From every second step, inside epochs and between them; samples are counted as though it had not stopped."""
    table = {"rule": {"name": rule}, **SAVED}
    reference = written(tmp_path / "one", {**table, "run": {"stages": 1}})
    first = written(tmp_path / "run", {**table, "run": {"stages": 2, "replicas": [1, 2]}})
    assert first[:4] == reference[:4]
    places = ([2, 1], [1, 2], [1], [2])
    cuts = cuts_of(tmp_path / "run")
    assert len(cuts) == 4
    for cut, counts in zip(cuts, places, strict=True):
        placed = {**table, "run": {"stages": len(counts), "replicas": counts}}
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, placed)[:4] == reference[:4]
        rows = json.loads((tmp_path / cut.name / "result.json").read_text())["stages"]
        for stage in range(len(counts)):
            assert sum(row["samples"] for row in rows if row["stage"] == stage) == 2 * 52


def test_a_run_goes_on_between_epochs_that_replicas_have_ended(tmp_path):
    """The snapshot has the epoch that all but the last replica have reported when the first ones write it."""
    table = {"rule": {"name": "pred"}, "model": {"norm": "none"}, "train": {"microbatches": 2, "eval_every": 3},
             "run": {"replicas": 2}}  # fmt: skip
    reference = written(tmp_path / "run", {**table, "snapshot": {"every_epochs": 1}})
    cuts = cuts_of(tmp_path / "run")
    assert [len(Manifest.read(cut).epochs) for cut in cuts] == [1, 2]
    assert resumed(tmp_path / "run", cuts[0], tmp_path / "on", table)[:4] == reference[:4]


LONG = ["train.epochs=2000", "--stages", "2", "run.predict=false", "rule.name=pred", "run.threads=1",
        "run.replicas=[1, 2]", "run.partition=parameters"]  # fmt: skip


def test_a_killed_replica_is_named(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_stage, tmp_path / "run" / "record.jsonl", 2)
        code, _, err = call("--out", tmp_path / "run", "--transport", "shared_memory", *LONG)
        killing.result()
    assert code == 1 and "launch.py: [stage 1/2, replica 1/2] its process died without a word" in err
    assert "killed by SIGKILL" in err


def test_a_run_that_lost_a_replica_goes_on(tmp_path, caplog):
    """From its newest snapshot, to the weights of a run that lost none."""
    plain = ["rule.name=pred", "run.threads=1", "run.partition=parameters", "run.predict=false", "train.epochs=40",
             "--stages", "2", "--quiet", "train.microbatches=2"]  # fmt: skip
    code, _, _ = call("--out", tmp_path / "one", *plain)
    assert code == 0
    more = ["run.replicas=[2, 1]", "restart.max_restarts=1", "snapshot.every_epochs=1"]
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_stage, tmp_path / "run" / "record.jsonl", 1)
        code, _, _ = call("--out", tmp_path / "run", *plain, *more)
        killing.result()
    one, found = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "run"))
    assert code == 0 and "restart 1 of 1" in caplog.text and "[stage 0/2, replica 1/2]" in caplog.text
    assert found["restarts"] == 1 and found["weights_sha256"] == one["weights_sha256"]


RANKS = ["rule.name=dfa", "run.threads=1", "run.partition=parameters", "train.epochs=1", "train.microbatches=2"]


@pytest.mark.parametrize("replicas", ["[1, 2]", "auto"])
def test_ranks_are_processes(tmp_path, replicas):
    code, _, _ = call("--out", tmp_path / "one", "--stages", "1", "--transport", "inline", *RANKS)
    assert code == 0
    more = ["--stages", "2"] if replicas == "auto" else []
    found = call_ranks(3, tmp_path, "--out", tmp_path / "run", f"run.replicas={replicas}", *more, *RANKS)
    assert [code for code, _, _ in found] == [0, 0, 0]
    one, several = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "run"))
    assert several["weights_sha256"] == one["weights_sha256"]
    assert sorted(several["replicas"]) == [1, 2] and several["num_stages"] == 2


def test_a_trace_names_replicas_and_joins_their_messages(tmp_path):
    table = changes("pred", 2, [1, 2], "shared_memory")
    run(tmp_path / "run", {**table, "run": {**table["run"], "trace": True}})
    trace = json.loads((tmp_path / "run" / "trace.json").read_text())
    names = [e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"]
    assert names[1:] == ["stage 1/2, replica 0/2 (blocks 2-4)", "stage 1/2, replica 1/2 (blocks 2-4)"]
    assert trace["otherData"]["stages_missing"] == []


@pytest.mark.parametrize(("rule", "place"), [("pred", PLACES[4]), ("backprop", PLACES[1])])
def test_replicas_behind_a_wire(tmp_path, rule, place):
    """What goes to other stages is rounded, and gradients between replicas are not."""
    wired = {"wire": "int8"}
    one = changes(rule, place[0], [1])
    several = changes(rule, *place)
    for table in (one, several):
        table["transport"] = {**table["transport"], **wired}
    first, second = (run(tmp_path / name, t)["weights_sha256"] for name, t in (("one", one), ("several", several)))
    assert first == second
