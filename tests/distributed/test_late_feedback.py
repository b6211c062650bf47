"""Late feedback beside a one-process simulator of the delay, for every rule that waits for some.

The simulator lets each block learn at once, with the weights that ran forward, and applies what it learned late.
"""

import copy
import json
from collections import deque

import pytest
import torch
from tests.support.runs import NUM_STEPS, SMALL, merged, run

from pipeline import registry
from pipeline.config import Config
from pipeline.data.windows import feed_of
from pipeline.learning.rule import Topology
from pipeline.network.recurrent import carried_in
from pipeline.numerics.seeds import derive, mix
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
RATE = 0.05
RULES = [
    {"name": "backprop"}, {"name": "glob_sim"}, {"name": "fa"}, {"name": "usf"}, {"name": "brsf"}, {"name": "frsf"},
    {"name": "dfa"}, {"name": "dfa", "inject": "pre"}, {"name": "sdfa"},
    {"name": "lra_fdbk", "reduction": "mean"}, {"name": "lra_fdbk", "halt": 0.05},
    {"name": "lra_diff", "reduction": "mean"}, {"name": "lra_rnn", "reduction": "mean"},
    {"name": "lra_rnn", "through_time": "fdbk"}, {"name": "lra_rnn", "through_time": "diff", "steps": 2},
    {"name": "tp"}, {"name": "dtp"}, {"name": "am"}, {"name": "am_mem", "reduction": "features", "code_rate": 0.005},
    {"name": "interlock", "overlap": 3}, {"name": "dni_rnn"},
]  # fmt: skip
NETS = {"usual": {}, "plain": {"norm": "none", "dropout": 0.0, "activation": "tanh"}}
NETS["half"] = {**NETS["plain"], "boundary": "half"}
NETS["sampled"] = {**NETS["plain"], "activation": "bernoulli"}
NETS["chunks"] = {"name": "rnn", "depth": 2, "width": 6}
NETS["labelled"] = {"name": "rnn", "width": 6, "reads": "last", "boundary": "half"}
DATA = {
    "chunks": {"name": "sine", "length": 12, "chunk": 4, "num_train": 24, "num_test": 6},
    "labelled": {"name": "noise", "shape": [7, 3], "num_train": 42, "num_test": 6, "num_classes": 3},
}
"""Of recurrent nets, in batches of 6: four groups of sequences in three chunks each, or sequences with one label."""
OVER_TIME = {"dni_rnn": ["chunks"], "am": ["labelled"]}
"""Rules of other blocks that are something else over time."""
SAMPLED = {"straight_through", "sigmoid_adjusted", "slope_annealing", "reinforce"}
"""Rules of blocks that draw samples."""
RULES += [*({"name": name} for name in sorted(SAMPLED)), {"name": "reinforce", "adjusted": True}]
PLAIN_ONLY = {"lra_fdbk", "lra_rnn", "tp", "dtp"}
"""Rules that refuse normalisation and dropout."""
HALF_ONLY = {"lra_diff", "am_mem"}
"""Rules of blocks that meet in front of their units."""
ONE_AT_A_TIME = {"am_mem"}
"""Rules that take no second batch before they have learned from the first."""
UNDELAYED = {"backprop", "dfa", "lra_diff", "dtp", "reinforce", "am", "am_mem"}
"""Of each topology, and of those that tell targets, draw or keep a baseline: with one batch in flight in every run of
the suite."""


def nets_of(rule):
    if rule["name"] in SAMPLED:
        return ["sampled"]
    if rule["name"] in HALF_ONLY:
        return ["half"]
    if "through_time" in rule:
        return ["chunks"]
    usual = ["plain"] if rule["name"] in PLAIN_ONLY else ["usual", "plain"]
    return usual + OVER_TIME.get(rule["name"], [])


CASES = [
    pytest.param(rule, net, in_flight, id="-".join(map(str, [*rule.values(), net, in_flight])),
                 marks=pytest.mark.full if in_flight == 1 and (rule["name"] not in UNDELAYED or net in DATA) else ())
    for rule in RULES for net in nets_of(rule) for in_flight in ((1,) if rule["name"] in ONE_AT_A_TIME else (1, 3))
]  # fmt: skip


def batches(config, out):
    """The training batches as the run sees them, epoch by epoch."""
    dataset = load_dataset(config, out)
    feed = feed_of(dataset.load()[0], dataset=dataset, batch_size=config.train.batch_size, seed=config.seed,
                   device=torch.device("cpu"), train=True)  # fmt: skip
    for epoch in range(config.train.epochs):
        yield [feed.batch(epoch, index) for index in range(feed.num_batches)]


def optimizer_of(rule):
    """Plain descent, each group of parameters at its own rate."""
    groups = [{"params": some, "lr": RATE * factor} for some, factor in rule.parameter_groups()]
    return torch.optim.SGD(groups, lr=RATE, fused=True)


class Simulator:
    """Whole batches through all blocks; hidden blocks apply their gradients ``in_flight - 1`` steps late."""

    def __init__(self, config, out):
        resolved = resolve(config, out)
        pairs = zip(resolved.blueprints, resolved.specs, strict=True)
        self.rules = [build_rule(resolved.config, blueprint, spec) for blueprint, spec in pairs]
        self.optimizers = [optimizer_of(rule) for rule in self.rules]
        self.seeds = {p: [derive(config.seed, p, k) for k in range(len(self.rules))] for p in ("forward", "learn")}
        self.chunking = load_dataset(config, out).spec.chunking
        self.late = deque()
        self.step = 0

    def announce(self, index, num_rows):
        """What recurrent layers are told before a chunk."""
        edges = {"is_start": self.chunking.is_start(index), "is_end": self.chunking.is_end(index)}
        for rule in self.rules:
            for _, carried in carried_in(rule.block):
                carried.announce(trains=True, rows=slice(num_rows), num_rows=num_rows, **edges)

    def reseed(self, purpose, block):
        torch.manual_seed(mix(self.seeds[purpose][block], self.step))

    def batch(self, index, x, y, in_flight):
        contexts, found = [], []
        if self.chunking is not None:
            self.announce(index, len(y))
        for k, rule in enumerate(self.rules):
            self.reseed("forward", k)
            x, context = rule(x, y)
            contexts.append(context)
        message = ()
        for k, rule in reversed(list(enumerate(self.rules))):
            self.reseed("learn", k)
            upstream = rule.learn(contexts[k], message).upstream
            message = upstream if rule.topology is Topology.NEIGHBOUR or rule.spec.is_last else message
            found.append([p.grad for p in rule.parameters()])
            rule.zero_grad()
        self.apply(len(self.rules) - 1, found[0])
        self.late.append(found[:0:-1])
        if len(self.late) == in_flight:
            self.catch_up()
        self.step += 1

    def catch_up(self):
        for block, grads in enumerate(self.late.popleft()):
            self.apply(block, grads)

    def apply(self, block, grads):
        for parameter, grad in zip(self.rules[block].parameters(), grads, strict=True):
            parameter.grad = grad
        self.optimizers[block].step()
        self.rules[block].zero_grad()


class LateModels(Simulator):
    """Blocks learn late through the weights that ran forward, a copy of them; models of gradients, which nothing asks
    in the forward pass, are asked late and learn late, by their weights of that time."""

    def batch(self, index, x, y, in_flight):
        if self.chunking is not None:
            self.announce(index, len(y))
        runners, contexts = [*map(copy.deepcopy, self.rules[:-1]), self.rules[-1]], []
        for k, (rule, runner) in enumerate(zip(self.rules, runners, strict=True)):
            self.reseed("forward", k)
            x, context = runner(x, y)
            contexts.append(context)
            for (_, mine), (_, ran) in zip(carried_in(rule.block), carried_in(runner.block), strict=True):
                mine.state = ran.state
            for buffer, value in zip(rule.buffers(), runner.buffers(), strict=True):
                buffer.copy_(value)
        message = self.rules[-1].learn(contexts[-1], ()).upstream
        self.apply(len(self.rules) - 1, [p.grad for p in self.rules[-1].parameters()])
        self.late.append((runners, contexts, message))
        if len(self.late) == in_flight:
            self.catch_up()
        self.step += 1

    def catch_up(self):
        runners, contexts, message = self.late.popleft()
        for k in reversed(range(len(runners) - 1)):
            runners[k].models = self.rules[k].models
            message = runners[k].learn(contexts[k], message).upstream
            self.apply(k, [p.grad for p in runners[k].parameters()])


@pytest.mark.parametrize(("rule", "net", "in_flight"), CASES)
def test_p3_p4_a_run_is_the_delay_simulator(tmp_path, rule, net, in_flight):
    """Bit for bit, with dropout and batch normalisation; one in flight is the undelayed rule."""
    changes = {
        "rule": rule, "optimizer": {"name": "sgd", "lr": RATE, "milestones": []},
        "train": {"in_flight": in_flight, **({"batch_size": 6} if net in DATA else {})}, "model": NETS[net],
        **({"dataset": DATA[net]} if net in DATA else {}),
    }  # fmt: skip
    config = Config.from_dict(merged(SMALL, changes))
    table = run(tmp_path / "run", changes)
    simulator = (LateModels if rule["name"] == "dni_rnn" else Simulator)(config, tmp_path)
    for number, epoch in enumerate(batches(config, tmp_path)):
        for mine in simulator.rules:
            mine.begin_epoch(number)
        for index, (x, y) in enumerate(epoch):
            simulator.batch(index, x, y, in_flight)
        while simulator.late:  # an epoch ends: everything in flight is learned from
            simulator.catch_up()
    for state, mine in zip(load_blocks(latest_weights(tmp_path / "run")), simulator.rules, strict=True):
        expected = mine.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
    hidden, steps = len(simulator.rules) - 1, table["steps"]
    # An epoch's first in_flight - 1 updates have nothing to be late for.
    late = [steps + 2 * hidden, 2 * hidden, (steps - 4) * hidden]
    counts = late if in_flight == 3 else [steps * (hidden + 1)]
    assert table["stages"][0]["staleness"]["counts"] == counts


def test_every_rule_that_waits_for_feedback_is_held_against_the_simulator(tmp_path):
    """One in flight is the undelayed rule for all of them, then. ``dni`` learns twice, see test_dni_runs; rules that
    settle are in test_ifa_runs."""
    for name in set(registry.known("pipeline.rules")) - {rule["name"] for rule in RULES} - {"dni"}:
        config = Config.from_dict(merged(SMALL, {"rule": {"name": name}, "model": NETS["plain"]}))
        topology = resolve(config, tmp_path).topology
        assert topology in (Topology.LOCAL, Topology.SETTLE), f"add {name} to RULES above"


@pytest.mark.parametrize("stages", [1, 3])
def test_how_late_updates_are_is_recorded_for_every_stage_and_epoch(tmp_path, stages):
    """Five blocks, of which the last is never late."""
    changes = {"rule": {"name": "fa"}, "train": {"in_flight": 2}, "run": {"stages": stages},
               "transport": {"name": "shared_memory"}}  # fmt: skip
    table = run(tmp_path / "run", changes)
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert sum(row["blocks"][1] - row["blocks"][0] + 1 for row in table["stages"]) == 5
    for stage in table["stages"]:
        first, last = stage["blocks"]
        hidden = min(last, 3) - first + 1
        counts = [hidden + (NUM_STEPS if last == 4 else 0), (NUM_STEPS - 1) * hidden]
        expected = {"mean": counts[1] / sum(counts), "max": 1, "counts": counts} if hidden else {
            "mean": 0.0, "max": 0, "counts": [NUM_STEPS]}  # fmt: skip
        epochs = [row["staleness"] for row in rows if row["event"] == "epoch" and row["stage"] == stage["stage"]]
        assert epochs == [expected, expected]
        assert stage["staleness"] == {**expected, "counts": [2 * count for count in expected["counts"]]}


def test_rules_that_wait_for_nothing_are_never_late(tmp_path):
    for stage in run(tmp_path / "run", {"run": {"stages": 2}, "train": {"in_flight": 3}})["stages"]:
        blocks = stage["blocks"][1] - stage["blocks"][0] + 1
        assert stage["staleness"] == {"mean": 0.0, "max": 0, "counts": [2 * NUM_STEPS * blocks]}
