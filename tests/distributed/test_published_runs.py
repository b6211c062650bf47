"""A read-out that is published now and then: who uses which version, wherever blocks are and whenever a run goes on."""

import json

import pytest
import torch
from tests.support.command import call
from tests.support.products import rare, square
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import merged, run, sha

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.records.snapshots import Manifest
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import build_rule, load_dataset, resolve

pytestmark = pytest.mark.distributed
BASE = merged(TINY, {
    "model": {"name": "mlp", "depth": 3, "width": 12, "norm": "none", "dropout": 0.0},
    "rule": {"name": "readout", "every": 2}, "optimizer": {"name": "sgd", "lr": 0.1, "milestones": []},
})  # fmt: skip
"""Fifteen steps, five an epoch; four blocks."""


class Loop:
    """All blocks in one loop, and every version that the last block's matrix has been through."""

    def __init__(self, config, out):
        resolved = resolve(config, out)
        pairs = zip(resolved.blueprints, resolved.specs, strict=True)
        self.rules = [build_rule(resolved.config, blueprint, spec) for blueprint, spec in pairs]
        self.optimizers = [torch.optim.SGD(rule.parameters(), lr=0.1, fused=True) for rule in self.rules]
        self.versions = [self.rules[-1].to_publish().clone()]

    def batch(self, step, every, x, y):
        used = self.version(step, every)
        for rule in self.rules:
            h = rule.block.body(x)
            scores = h if rule.spec.is_last else torch.nn.functional.linear(rule.norm(h), used, rule.bias)
            torch.autograd.backward(rule.spec.task.loss(scores, y))
            x = h.detach()
        for rule, optimizer in zip(self.rules, self.optimizers, strict=True):
            optimizer.step()
            rule.zero_grad()
        self.versions.append(self.rules[-1].to_publish().clone())

    def version(self, step, every):
        return self.versions[max(0, every * (step // every - 1))]


@pytest.mark.parametrize("every", rare([1, 2, 4, 7, 100], but=[1, 4]))
def test_at_each_step_everybody_uses_the_version_that_the_step_says(tmp_path, every):
    base = merged(BASE, {"rule": {"every": every}})
    run(tmp_path / "run", {"run": {"stages": 3}, "transport": {"name": "shared_memory"}}, base=base)
    config = Config.from_dict(base)
    loop, dataset = Loop(config, tmp_path), load_dataset(config, tmp_path)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=12, seed=0, device=torch.device("cpu"), train=True)
    for step in range(15):
        loop.batch(step, every, *feed.batch(step // 5, step % 5))
    states = load_blocks(latest_weights(tmp_path / "run"))
    for state, rule in zip(states, loop.rules, strict=True):
        for name, wanted in rule.named_parameters():
            torch.testing.assert_close(state[name], wanted, rtol=1e-6, atol=1e-7)
    for state in states[:-1]:
        assert torch.equal(state["published"], states[0]["published"])
        torch.testing.assert_close(state["published"], loop.version(15, every), rtol=1e-6, atol=1e-7)
    newest = loop.versions[15 - 15 % every]
    torch.testing.assert_close(states[-1]["published"], newest, rtol=1e-6, atol=1e-7)


WAYS = {
    "micro-batches": {"train": {"microbatches": 3}}, "int8": {"transport": {"wire": "int8"}},
    "momentum": {"optimizer": {"momentum": 0.9, "clip": 0.1}, "rule": {"every": 3}},
    "late": {"chaos": {"delay_s": 0.002}},
}  # fmt: skip


@pytest.mark.parametrize(("way", "stages", "transport"), square(
    list(WAYS), [2, "blocks"], ["shared_memory", "process_group", "inline"]
))  # fmt: skip
def test_p1_any_placement(tmp_path, way, stages, transport):
    base = merged(BASE, WAYS[way])
    placed = {"run": {"stages": stages}, "transport": {**base["transport"], "name": transport}}
    assert sha(tmp_path / "some", placed, base=base) == sha(tmp_path / "one", base=base)


@pytest.mark.parametrize("every", rare([1, 2, 4], but=[2]))
def test_a_run_goes_on_from_wherever_it_is_cut(tmp_path, every):
    base = merged(BASE, {"snapshot": {"every_steps": 1}, "rule": {"every": every}})
    expected = written(tmp_path / "run", {"run": {"stages": 2}}, base)[:4]
    for index, cut in enumerate(cuts_of(tmp_path / "run")[:: 3 if every == 2 else 1]):
        changes = {"run": {"stages": (1, 2, 3)[index % 3]}}
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, changes, base)[:4] == expected, cut.name


def test_a_run_that_ended_is_continued_as_one_that_did_not_end(tmp_path):
    longer = written(tmp_path / "longer", {}, BASE)[0]
    run(tmp_path / "run", {"train": {"epochs": 2}, "run": {"stages": 2}}, base=BASE)
    flags = ["--resume", tmp_path / "run", "--allow-changes", "train.epochs=3", "--data-root", tmp_path, "--quiet"]
    code, _, err = call(*flags)
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["weights_sha256"] == longer


def test_a_run_that_stops_early_takes_what_is_under_way(tmp_path):
    """Else the last stage waits at its end for a version to be taken that nobody asks for."""
    changes = {"train": {"epochs": 9, "patience": 1}, "dataset": {"validation": 0.2}, "optimizer": {"lr": 1e-9}}
    base = merged(BASE, changes)
    placed = {"run": {"stages": 2, "timeout_s": 10.0}, "transport": {"name": "shared_memory"}}
    results = [run(tmp_path / str(k), change, base=base) for k, change in enumerate(({}, placed))]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert all(result["blocks"][-1]["epochs_trained"] < 9 for result in results)


def test_a_dry_run_and_a_plan_leave_out_what_is_published(tmp_path):
    placed = {"run": {"stages": 2, "predict": True}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "dry", placed, base=BASE) == sha(tmp_path / "one", base=BASE)
    code, out, err = call("--plan", "rule.name=readout", "model.depth=3", "model.width=32", "--stages", "2",
                          "run.threads=1")  # fmt: skip
    assert code == 0 and "readout" in out, (out, err)


WRONG = {
    "blocks of different widths": (["model.width=[12, 10]"], "the blocks cannot share a read-out (given: rule readout "
                                   "with (10, 12) in block 0 and (10, 10) in the last one"),
    "maps": (["model.name=vgg8b", "dataset.name=noise", "dataset.shape=[3,32,32]", "dataset.num_train=64"],
             "the rule readout does not fit block 0: the shared read-out takes vectors (given"),
    "one block after another": (["schedule.mode=sequential"], "the sequential mode trains the last block when the oth"),
    "replicas": (["run.replicas=2", "run.stages=1"], "what the last block publishes goes to one process of each stage"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_message_and_exit_code_2(tmp_path, name):
    arguments, text = WRONG[name]
    code, out, err = call("--out", tmp_path / "run", "rule.name=readout", *arguments)
    assert code == 2 and out == "" and err.startswith("launch.py: ") and err.count("\n") == 1, err
    assert text in err and not (tmp_path / "run").exists(), err


def test_a_run_that_goes_on_under_another_number_does_so_alike_on_any_stages(tmp_path):
    """From step 5, of which every block uses the version after step 2, to the first step that 7 divides: nobody goes
    over to another one there, whether it is on the last block's stage or not."""
    base = merged(BASE, {"snapshot": {"every_steps": 5, "keep": 100}})
    written(tmp_path / "run", {}, base)
    (cut,) = [folder for folder in cuts_of(tmp_path / "run") if Manifest.read(folder).cut == (1, 0)]
    found = {
        resumed(tmp_path / "run", cut, tmp_path / f"{sizes}", {"run": {"partition": sizes, "stages": len(sizes)},
                "transport": {"name": "shared_memory"}, "rule": {"every": 7}}, base, allow_changes=True)[0]
        for sizes in ([4], [2, 2], [3, 1])
    }  # fmt: skip
    assert len(found) == 1
