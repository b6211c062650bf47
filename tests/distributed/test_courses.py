"""Rates from step to step, norms of blocks, decay of matrices: the same weights wherever blocks are; autograd's own."""

import json
import math
from functools import reduce

import pytest
import torch
from tests.support.products import square
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import merged, run, sha
from torch import nn

from pipeline.config import Config
from pipeline.data.batches import Batches
from pipeline.network.block import build_block
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import load_dataset, resolve

pytestmark = pytest.mark.distributed
OPTIMIZER = {
    "name": "adamw", "lr": 1e-2, "weight_decay": 0.1, "course": "cosine", "warmup_steps": 3, "final_fraction": 0.1,
    "clip": 0.2, "decay_on": "matrices", "milestones": [2],
}  # fmt: skip
BASE = merged(TINY, {"optimizer": OPTIMIZER, "model": {"norm": "none"}, "rule": {"name": "pred"}})
WAYS = {
    "pred": {},
    "sgd": {"optimizer": {"name": "sgd", "course": "wsd", "decay_share": 0.5}},
    "dfa": {"rule": {"name": "dfa"}, "train": {"in_flight": 3}},
    "backprop": {"rule": {"name": "backprop"}},
    "gpipe": {"schedule": {"mode": "gpipe"}},
    "1f1b": {"schedule": {"mode": "1f1b"}},
}


CASES = [
    case if case.values[0] in ("pred", "dfa", "1f1b") else pytest.param(*case.values, marks=pytest.mark.full)
    for case in square(list(WAYS), [2, "blocks"], ["shared_memory", "process_group", "inline"])
]  # fmt: skip


@pytest.mark.parametrize(("way", "stages", "transport"), CASES)
def test_p1_any_placement(tmp_path, way, stages, transport):
    base = merged(BASE, WAYS[way])
    expected = sha(tmp_path / "one", base=base)
    assert sha(tmp_path / "some", {"run": {"stages": stages}, "transport": {"name": transport}}, base=base) == expected


@pytest.mark.parametrize("way", ["pred", "backprop"])
def test_each_of_them_matters(tmp_path, way):
    left_out = ({}, {"course": "constant"}, {"warmup_steps": 0}, {"clip": 0.0}, {"decay_on": "all"})
    changes = [{**WAYS[way], "optimizer": each, "train": {"epochs": 1}} for each in left_out]
    assert len({sha(tmp_path / str(k), change, base=BASE) for k, change in enumerate(changes)}) == len(left_out)


@pytest.mark.parametrize("mode", ["parallel", "gpipe"])
def test_replicas_clip_the_sum_of_their_gradients(tmp_path, mode):
    base = merged(BASE, {"schedule": {"mode": mode}, "train": {"microbatches": 2}})
    changes = {"run": {"stages": 2, "replicas": 2}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "four", changes, base=base) == sha(tmp_path / "one", base=base)


@pytest.mark.parametrize("mode", ["backprop", "gpipe"])
def test_backprop_with_a_bound_for_each_block_is_autograd(tmp_path, mode):
    base = merged(BASE, {"schedule": {"mode": mode}, "rule": {"name": "backprop"}, "model": {"dropout": 0.0}})
    run(tmp_path / "run", base=base)
    resolved = resolve(Config.from_dict(base), tmp_path)
    net = nn.Sequential(*(build_block(b, 0, k) for k, b in enumerate(resolved.blueprints)))
    groups = [{"params": [p for p in net.parameters() if (p.dim() > 1) == full], "weight_decay": 0.1 * full}
              for full in (True, False)]  # fmt: skip
    plain = torch.optim.AdamW(groups, lr=1e-2)
    dataset = load_dataset(resolved.config, tmp_path)
    feed = Batches(dataset.load()[0], dataset=dataset, batch_size=12, seed=0, device=torch.device("cpu"), train=True)
    clipped = 0
    for step in range(15):
        x, y = feed.batch(step // 5, step % 5)
        plain.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        for block in net:
            clipped += bool(nn.utils.clip_grad_norm_(block.parameters(), 0.2) > 0.2)
        fallen = (1 - math.cos(math.pi * max(0, step - 3) / 12)) / 2
        for group in plain.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 3) * (1 - 0.9 * fallen) * (0.25 if step >= 10 else 1.0)
        plain.step()
    assert 0 < clipped < 60
    found = [t for state in load_blocks(latest_weights(tmp_path / "run")) for t in state.values()]
    for mine, theirs in zip(found, net.parameters(), strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_one_block_after_another_has_each_a_course_of_its_own(tmp_path):
    changes = {"schedule": {"mode": "sequential", "patience": 1, "tolerance": 0.0}, "train": {"epochs": 2}}
    base = merged(BASE, changes)
    expected = sha(tmp_path / "one", base=base)
    assert sha(tmp_path / "two", {"run": {"stages": 2}, "transport": {"name": "shared_memory"}}, base=base) == expected


def test_the_second_block_in_turn_begins_a_course_and_does_not_stand_at_the_end_of_the_firsts(tmp_path):
    """A course that falls to nothing: the first block learns what it learns beside the others, and the second moves."""
    low = {"optimizer": {"warmup_steps": 0, "final_fraction": 0.0, "milestones": []}, "train": {"epochs": 2}}
    turns = {"schedule": {"mode": "sequential", "patience": 9, "tolerance": 0.0}}
    still = {"optimizer": {"lr": 1e-30}}

    def weights(name, *changes):
        run(tmp_path / name, base=reduce(merged, [low, *changes], BASE))
        return [next(iter(state.values())) for state in load_blocks(latest_weights(tmp_path / name))]

    in_turn, together, fixed = weights("turns", turns), weights("together"), weights("fixed", still)
    assert torch.equal(in_turn[0], together[0]) and not torch.equal(in_turn[0], fixed[0])
    assert (in_turn[1] - fixed[1]).abs().max() > 1e-3


def test_a_run_goes_on_from_the_middle_of_its_course(tmp_path):
    base = merged(BASE, {"snapshot": {"every_steps": 1, "keep": 100}})
    expected = written(tmp_path / "run", {}, base)
    for index, cut in enumerate(cuts_of(tmp_path / "run")[1:12:5]):
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, {"run": {"stages": index + 1}}, base)[0] == (
            expected[0])  # fmt: skip


def test_runs_of_before_there_were_courses_are_gone_on_with(tmp_path):
    base = merged(TINY, {"snapshot": {"every_epochs": 1}})
    expected = written(tmp_path / "run", {}, base)
    config = tmp_path / "run" / "config.toml"
    lines = [line for line in config.read_text().splitlines() if line.partition(" =")[0] not in {
        "course", "warmup_steps", "final_fraction", "decay_share", "clip", "decay_on"}]  # fmt: skip
    assert len(lines) == len(config.read_text().splitlines()) - 6
    config.write_text("\n".join(lines))
    cut = cuts_of(tmp_path / "run")[1]
    assert resumed(tmp_path / "run", cut, tmp_path / "on", {}, base)[0] == expected[0]


def test_the_options_are_in_the_record(tmp_path):
    run(tmp_path / "run", base=BASE)
    header = json.loads((tmp_path / "run" / "record.jsonl").read_text().splitlines()[0])
    assert {**header["config"]["optimizer"], **OPTIMIZER} == header["config"]["optimizer"]
