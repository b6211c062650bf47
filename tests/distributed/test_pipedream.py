"""The mode pipedream beside a one-process simulator that keeps every version of every stage's weights.

Micro-batch k of an epoch runs forward and backward at stage s of S with the weights after max(0, k - (S - s)) updates
of that epoch; its gradient is update k + 1 (Harlap et al. 2018). So what is learned depends on the partition.
"""

import pytest
import torch
from tests.support.runs import SMALL, merged, run, sha

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.engine.in_flight import SavedTensors
from pipeline.numerics.seeds import derive, mix
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
PARTITIONS = {1: [5], 2: [2, 3], 4: [1, 2, 1, 1]}
PLAIN = {"norm": "none", "dropout": 0.0, "activation": "tanh"}
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "milestones": []}


def changes(num_stages, rule="backprop", depth=4, **more):
    return {
        "schedule": {"mode": "pipedream"}, "rule": {"name": rule}, "optimizer": SGD,
        "run": {"stages": num_stages, "partition": PARTITIONS[num_stages]},
        "transport": {"name": "shared_memory", "depth": depth}, **more,
    }  # fmt: skip


class SimulatedStage:
    """The blocks of one stage, and all versions of their parameters."""

    def __init__(self, config, pairs, first, delay):
        self.rules = [build_rule(config, blueprint, spec) for blueprint, spec in pairs]
        self.parameters = [p for rule in self.rules for p in rule.parameters()]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.05, momentum=0.9, fused=True)
        self.seeds = [{p: derive(config.seed, p, first + k) for p in ("forward", "learn")}
                      for k in range(len(pairs))]  # fmt: skip
        self.delay = delay

    def begin_epoch(self):
        self.versions = [self.current()]

    def current(self):
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def use(self, version):
        for parameter, value in zip(self.parameters, self.versions[version], strict=True):
            parameter.copy_(value)

    def forward(self, k, step, x, y):
        self.use(max(0, k - self.delay))
        self.contexts = []
        for rule, seeds in zip(self.rules, self.seeds, strict=True):
            torch.manual_seed(mix(seeds["forward"], step))
            x, context = rule(x, y)
            self.contexts.append(context)
        return x

    def backward(self, step, feedback):
        for rule, seeds, context in reversed(list(zip(self.rules, self.seeds, self.contexts, strict=True))):
            torch.manual_seed(mix(seeds["learn"], step))
            feedback = rule.learn(context, feedback).upstream
        self.use(-1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.versions.append(self.current())
        return feedback


def simulated(config, out):
    """The blocks' rules after training."""
    found = resolve(config, out)
    pairs = list(zip(found.blueprints, found.specs, strict=True))
    sizes = config.run.partition
    firsts = [sum(sizes[:s]) for s in range(len(sizes))]
    stages = [
        SimulatedStage(found.config, pairs[first : first + size], first, len(sizes) - 1 - s)
        for s, (first, size) in enumerate(zip(firsts, sizes, strict=True))
    ]
    dataset = load_dataset(config, out)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=config.train.batch_size, seed=config.seed,
                   device=torch.device("cpu"), train=True)  # fmt: skip
    for epoch in range(config.train.epochs):
        for stage in stages:
            stage.begin_epoch()
        for k in range(feed.num_batches):
            step = epoch * feed.num_batches + k
            x, y = feed.batch(epoch, k)
            for stage in stages:
                x = stage.forward(k, step, x, y)
            feedback = ()
            for stage in reversed(stages):
                feedback = stage.backward(step, feedback)
    return [rule for stage in stages for rule in stage.rules]


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("num_stages", PARTITIONS)
@pytest.mark.parametrize(("rule", "model"), [("backprop", {}), ("backprop", PLAIN), ("fa", {})],
                         ids=["backprop", "backprop-plain", "fa"])  # fmt: skip
def test_o_bp4_a_run_is_the_simulator_of_weight_versions(tmp_path, rule, model, num_stages, depth):
    """O-BP4: a PipeDream run is the simulator in which stage s of S learns with its weights of S - s updates ago.

    Bit for bit, with dropout, batch normalisation and momentum, however short the queues are.
    """
    wanted = changes(num_stages, rule, depth, model=model)
    table = run(tmp_path / "run", wanted)
    expected = simulated(Config.from_dict(merged(SMALL, wanted)), tmp_path)
    for state, mine in zip(load_blocks(latest_weights(tmp_path / "run")), expected, strict=True):
        theirs = mine.state_dict()
        assert state.keys() == theirs.keys()
        assert all(torch.equal(state[key], theirs[key]) for key in theirs)
    for stage, row in enumerate(table["stages"]):
        assert row["staleness"]["max"] == num_stages - 1 - stage  # as many updates late as stages follow


def test_o_bp5_without_the_versions_that_ran_forward_other_weights_are_learned(tmp_path, monkeypatch):
    """O-BP5: a run that does not keep the weights that ran forward learns other weights.

    The gradient of a new version at an old one's activations: of nothing, and no error is raised about it.
    """
    wanted = changes(2, transport={"name": "inline"})
    found = sha(tmp_path / "stashed", wanted)
    monkeypatch.setattr(SavedTensors, "_pack", lambda self, tensor: tensor)
    assert sha(tmp_path / "newest", wanted) != found


def test_o_bp4_one_stage_is_plain_backpropagation(tmp_path):
    """O-BP4: PipeDream on one stage is plain backpropagation, bit for bit."""
    found = sha(tmp_path / "pipedream", changes(1))
    assert found == sha(tmp_path / "backprop", {**changes(1), "schedule": {"mode": "backprop"}})


@pytest.mark.parametrize("transport", ["inline", "process_group"])
def test_the_transport_changes_nothing_and_the_partition_does(tmp_path, transport):
    found = sha(tmp_path / "run", changes(2, transport={"name": transport}))
    assert found == sha(tmp_path / "shared", changes(2))
    assert found != sha(tmp_path / "one", changes(1))
