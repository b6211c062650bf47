"""Read-outs of blocks and what they stand behind: the same weights wherever the blocks are; pred and backprop."""

import json
from collections import deque
from functools import cache

import pytest
import torch
from tests.support.command import call
from tests.support.products import rare, square
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import merged, run, sha
from tests.support.short_text import on_short_text

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.data.windows import feed_of
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
RUN = {"threads": 1, "stages": 1, "partition": "parameters", "predict": False, "timeout_s": 60.0}
RULES = {
    "linear": {"name": "aux"}, "mlp": {"name": "aux", "head": "mlp"},
    "private": {"name": "aux", "depth": 1, "norm": True},
    "two": {"name": "interlock", "norm": True}, "three": {"name": "interlock", "overlap": 3, "depth": 1},
    "all": {"name": "interlock", "overlap": 4},
    "shared": {"name": "readout", "every": 1}, "seldom": {"name": "readout", "every": 2, "norm": False},
}  # fmt: skip
USUAL = {"private", "two", "three", "shared"}
"""Tried in every run of the suite, the others in the full one."""
STAGES, TRANSPORTS = [2, 3, "blocks"], ["inline", "shared_memory", "process_group"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A run on a short text of few bytes: two epochs of three steps, the last of which is smaller."""
    return {
        **on_short_text(tmp_path_factory.mktemp("text"), 4), "rule": {"name": "aux"},
        "train": {"epochs": 2, "batch_size": 8}, "run": RUN,
    }  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory, text):
    """The weights of each rule from one stage in this process."""
    return cache(lambda name: sha(tmp_path_factory.mktemp(name) / "run", {"rule": RULES[name]}, base=text))


CASES = [
    case if case.values[0] in USUAL else pytest.param(*case.values, marks=pytest.mark.full)
    for case in square(list(RULES), STAGES, TRANSPORTS)
]  # fmt: skip


@pytest.mark.parametrize(("rule", "stages", "transport"), CASES)
def test_p1_a_transformer_on_any_number_of_stages_over_any_transport(
    tmp_path, text, reference, rule, stages, transport
):
    changes = {"rule": RULES[rule], "run": {"stages": stages}, "transport": {"name": transport}}
    assert sha(tmp_path / "run", changes, base=text) == reference(rule)


def test_a_lone_read_out_is_preds(tmp_path, text, reference):
    assert reference("linear") == sha(tmp_path / "run", {"rule": {"name": "pred"}}, base=text)
    changes = [{"rule": {"name": "aux"}}, {"rule": {"name": "pred", "dimdec": 10**6}}]
    assert len({sha(tmp_path / str(k), change, base=TINY) for k, change in enumerate(changes)}) == 1


@pytest.mark.parametrize("rule", [{"name": "aux", "head": "mlp"}, {"name": "aux", "depth": 1}])
def test_auxiliary_nets_of_classes(tmp_path, rule):
    base = merged(TINY, {"rule": rule, "train": {"microbatches": 2}})
    expected = sha(tmp_path / "one", base=base)
    three = {"run": {"stages": 3}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "three", three, base=base) == expected
    assert sha(tmp_path / "replicas", {"run": {"stages": 2, "replicas": [2, 1]}}, base=base) == expected


def test_a_run_with_private_layers_goes_on_from_the_middle_of_an_epoch(tmp_path, text):
    base = merged(text, {"rule": RULES["private"], "snapshot": {"every_steps": 1, "keep": 100}})
    expected = written(tmp_path / "run", {}, base)[:4]
    for index, cut in enumerate(cuts_of(tmp_path / "run")[1:6:2]):
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, {"run": {"stages": index + 1}}, base)[:4] == expected


def test_every_block_has_its_bits_per_byte_and_the_run_is_loaded(tmp_path, text):
    result = run(tmp_path / "run", {"rule": RULES["private"]}, base=text)
    bits = [b["test_metrics"]["bits_per_byte"] for b in result["blocks"]]
    assert len(bits) == 4 and bits[-1] == result["test"]["bits_per_byte"] and all(0 < b < 8 for b in bits)
    code, out, err = call("--resume", tmp_path / "run", "--generate", "5")
    assert (code, err) == (0, "") and len(out) == 6
    code, out, err = call("--evaluate", tmp_path / "run")
    assert code == 0 and f"{result['test']['bits_per_byte']:.3f}"[:4] in out, (out, err)
    rows = [json.loads(line) for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines()]
    assert rows[0]["config"]["rule"] == {"name": "aux", "head": "linear", "depth": 1, "norm": True}


@pytest.mark.parametrize("overlap", [2, 3])
@pytest.mark.parametrize("way", [
    {"train": {"in_flight": 3}}, {"schedule": {"mode": "1f1b"}, "train": {"microbatches": 4}},
], ids=["in-flight", "1f1b"])  # fmt: skip
def test_gradients_of_losses_above_are_placement_free_in_other_ways_too(tmp_path, text, overlap, way):
    base = merged(text, {"rule": {"name": "interlock", "overlap": overlap}, **way})
    expected = sha(tmp_path / "one", base=base)
    for stages, transport in ((3, "shared_memory"), ("blocks", "inline")):
        placed = {"run": {"stages": stages}, "transport": {"name": transport}}
        assert sha(tmp_path / str(stages), placed, base=base) == expected
    assert expected != sha(tmp_path / "plain", {"rule": base["rule"]}, base=text)


def test_the_ends_of_an_overlap_are_aux_and_backprop(tmp_path, text, reference):
    assert sha(tmp_path / "one", {"rule": {"name": "interlock", "overlap": 1}}, base=text) == reference("linear")
    found = []
    for rule in ({"name": "interlock", "overlap": 4}, {"name": "backprop"}):
        # A bound on the norm of a block is one on its read-out's gradient, too.
        run(tmp_path / rule["name"], {"rule": rule, "optimizer": {"clip": 0.0}}, base=text)
        states = load_blocks(latest_weights(tmp_path / rule["name"]))
        found.append({f"{k}.{n}": t for k, s in enumerate(states) for n, t in s.items() if n.startswith("block.")})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    for name, tensor in found[0].items():
        assert (tensor - found[1][name]).abs().max() <= 1e-6 * tensor.abs().max(), name


class Loop:
    """All blocks in one loop, an overlap of two: read-outs and the last block learn at once, the others by what the
    block above had said of the same batch, so many batches later."""

    def __init__(self, config, out):
        resolved = resolve(config, out)
        pairs = zip(resolved.blueprints, resolved.specs, strict=True)
        self.rules = [build_rule(resolved.config, blueprint, spec) for blueprint, spec in pairs]
        self.optimizers = [torch.optim.SGD(rule.parameters(), lr=0.05, fused=True) for rule in self.rules]
        self.late = deque()

    def batch(self, x, y, in_flight):
        losses, out = [], x
        for rule in self.rules:
            z = out.detach().requires_grad_(out.is_floating_point())
            out = rule.block(z)
            scores = out if rule.head is None else rule.head(out)
            losses.append((z, rule.spec.task.loss(scores, y)))
        found = []
        for k, rule in enumerate(self.rules):
            own = [] if rule.head is None else list(rule.head.parameters())
            at_once = own or list(rule.parameters())
            for p, g in zip(at_once, torch.autograd.grad(losses[k][1], at_once, retain_graph=True), strict=True):
                p.grad = g
            if rule.head is not None:
                (message,) = torch.autograd.grad(losses[k + 1][1], losses[k + 1][0], retain_graph=True)
                found.append((message, rule))
        self.late.append([torch.autograd.grad(self._again(losses, k), list(rule.block.parameters()), message)
                          for k, (message, rule) in enumerate(found)])  # fmt: skip
        self.step()
        if len(self.late) == in_flight:
            self.hear()

    def _again(self, losses, k):
        return self.rules[k].block(losses[k][0])

    def hear(self):
        for rule, gradients in zip(self.rules, self.late.popleft(), strict=False):
            for p, g in zip(rule.block.parameters(), gradients, strict=True):
                p.grad = g
        self.step()

    def step(self):
        for rule, optimizer in zip(self.rules, self.optimizers, strict=True):
            optimizer.step()
            rule.zero_grad()


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_run_of_two_is_the_loop(tmp_path, in_flight):
    """Late blocks descend by the weights of their forward pass."""
    base = merged(TINY, {
        "model": {"norm": "none", "dropout": 0.0}, "rule": {"name": "interlock"}, "train": {"in_flight": in_flight},
        "optimizer": {"name": "sgd", "lr": 0.05, "milestones": []},
    })  # fmt: skip
    run(tmp_path / "run", {"run": {"stages": 2}, "transport": {"name": "shared_memory"}}, base=base)
    config = Config.from_dict(base)
    loop, dataset = Loop(config, tmp_path), load_dataset(config, tmp_path)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=12, seed=0, device=torch.device("cpu"), train=True)
    for epoch in range(3):
        for index in range(feed.num_batches):
            loop.batch(*feed.batch(epoch, index), in_flight)
        while loop.late:
            loop.hear()
    for state, rule in zip(load_blocks(latest_weights(tmp_path / "run")), loop.rules, strict=True):
        for name, wanted in rule.state_dict().items():
            torch.testing.assert_close(state[name], wanted, rtol=1e-6, atol=1e-7)


def losses_of(rules, x, y):
    """Of every block's read-out, in one graph."""
    found = []
    for rule in rules:
        x = rule.block(x)
        found.append(rule.spec.task.loss(x if rule.head is None else rule.head(x), y))
    return found


@pytest.mark.parametrize("overlap", rare([2, 3], but=[2]))
def test_a_transformer_under_an_overlap_is_one_graph_with_adamw_and_a_bound_for_each_block(tmp_path, text, overlap):
    """Each block's gradient is that of the loss so many blocks above, its read-out's that of its own; both in one
    norm."""
    rule = {"name": "interlock", "overlap": overlap, "norm": True}
    base = merged(text, {"rule": rule, "optimizer": {"course": "constant", "warmup_steps": 0, "clip": 0.3}})
    run(tmp_path / "run", base=base)
    resolved = resolve(Config.from_dict(base), tmp_path)
    pairs = zip(resolved.blueprints, resolved.specs, strict=True)
    rules = [build_rule(resolved.config, blueprint, spec) for blueprint, spec in pairs]
    optimizers = [torch.optim.AdamW(rule.parameters(), lr=1e-2) for rule in rules]
    dataset, clipped = load_dataset(resolved.config, tmp_path), 0
    feed = feed_of(dataset.load()[0], dataset=dataset, batch_size=8, seed=0, device=torch.device("cpu"), train=True)
    for step in range(6):
        losses = losses_of(rules, *feed.batch(step // 3, step % 3))
        for k, rule in enumerate(rules):
            above = losses[min(k + overlap - 1, 3)]
            for part, loss in ((rule.block, above), (rule.head, losses[k])):
                own = [] if part is None else list(part.parameters())
                for p, g in zip(own, torch.autograd.grad(loss, own, retain_graph=True) if own else (), strict=True):
                    p.grad = g
            clipped += bool(torch.nn.utils.clip_grad_norm_(rule.parameters(), 0.3) > 0.3)
        for optimizer in optimizers:
            optimizer.step()
    assert clipped > 0
    for state, rule in zip(load_blocks(latest_weights(tmp_path / "run")), rules, strict=True):
        for name, wanted in rule.state_dict().items():
            torch.testing.assert_close(state[name], wanted, rtol=1e-4, atol=1e-5)


WRONG = {
    "a reduced map of positions": (["rule.head=mlp_sr"], "a reduced map needs a map (given: rule.head = "),
    "a head that is not there": (["rule.head=deep"], "wrong value for rule.head (given: 'deep'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_message_and_exit_code_2(tmp_path, name):
    arguments, text = WRONG[name]
    code, out, err = call("--out", tmp_path / "run", "--stages", "1", "dataset.name=text", "model.name=transformer",
                          "rule.name=aux", *arguments)  # fmt: skip
    assert code == 2 and out == "" and err.startswith("launch.py: ") and err.count("\n") == 1, err
    assert text in err and not (tmp_path / "run").exists()
