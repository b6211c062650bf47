"""Convolutions with their channels last in memory: one result wherever the blocks are, close to the usual order's."""

import pytest
import torch
from tests.support.runs import run

from pipeline.records.weights import latest_weights, load_blocks
from workers import worker

CONV = {
    "model": {"name": "tests.support.conv_net.small"}, "dataset": {"name": "digits", "crop_padding": 1},
    "optimizer": {"name": "sgd", "lr": 0.01}, "train": {"epochs": 1, "batch_size": 100},
}  # fmt: skip


def trained(folder, rule, stages=1, transport="inline", *, last=True, mode="parallel", cache="off"):
    changes = {
        **CONV, "rule": {"name": rule}, "transport": {"name": transport}, "schedule": {"mode": mode, "cache": cache},
        "run": {"stages": stages, "channels_last": last},
    }  # fmt: skip
    return run(folder, changes)["weights_sha256"]


RULES = ["linear_decoder", "predsim", "predsim_bio", "drtp", "dfa", "fa", "frsf", "backprop", "am"]


@pytest.mark.parametrize("rule", RULES)
def test_one_result_on_any_number_of_stages_over_any_transport(tmp_path, rule):
    found = {
        trained(tmp_path / "1", rule), trained(tmp_path / "2", rule, 2, "shared_memory"),
        trained(tmp_path / "3", rule, 3, "inline"), trained(tmp_path / "4", rule, 2, "process_group"),
    }  # fmt: skip
    assert len(found) == 1


def test_kept_outputs_of_frozen_blocks_change_nothing(tmp_path):
    found = {
        trained(tmp_path / cache, "linear_decoder", 2, mode="sequential", cache=cache) for cache in ("off", "memory")
    }
    assert len(found) == 1


def test_the_weights_are_close_to_those_of_the_usual_order_and_laid_out_as_promised(tmp_path, monkeypatch):
    """In the stage; in a file they have no layout."""
    kept, finish = [], worker.StageRun.finish
    monkeypatch.setattr(worker.StageRun, "finish", lambda self: (kept.append(self.program.stage), finish(self))[1])
    trained(tmp_path / "last", "linear_decoder")
    trained(tmp_path / "first", "linear_decoder", last=False)
    last, first = (load_blocks(latest_weights(tmp_path / name)) for name in ("last", "first"))
    for ours, usual in zip(last, first, strict=True):
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, usual[name], rtol=1e-4, atol=1e-5)
    state = kept[0].state(1)
    weight, decoder = state["block.body.0.weight"], state["decoder"]
    assert all(t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in (weight, decoder))
