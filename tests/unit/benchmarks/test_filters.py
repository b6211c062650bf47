"""Filters of a network without its nonlinearities, and how noisy they look."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import filters
from benchmarks.accuracy.attempt import summary
from benchmarks.accuracy.cell import Cell
from benchmarks.accuracy.metrics import filter_variation
from pipeline.config.toml_text import to_toml
from pipeline.records.weights import latest_weights, load_blocks

CONFIG = {
    "model.name": "mlp", "model.width": [12, 9], "model.norm": "none", "model.activation": "tanh",
    "dataset.name": "digits", "rule.name": "lra_fdbk", "train.epochs": 1, "train.batch_size": 200,
    "optimizer.lr": 0.01,
}  # fmt: skip


def arguments_of(folder, **changes):
    cell = Cell("one", {**CONFIG, **{key.replace("__", "."): value for key, value in changes.items()}}, [])
    (folder / "config.toml").write_text(to_toml(cell.nested(0)))
    return ["--config", str(folder / "config.toml"), "--out", str(folder / "run"), "--data-root", str(folder)]


def test_layers_without_their_nonlinearities_are_one_matrix():
    layers = [nn.Linear(6, 5, bias=False), nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False)]
    found = filters.linear_filters([layer.weight.detach() for layer in layers])
    x = torch.randn(7, 6)
    assert found.shape == (3, 6) and torch.allclose(nn.Sequential(*layers)(x), x @ found.T.float(), atol=1e-6)


def test_total_variation_is_counted_on_images_of_unit_length():
    flat, corner = torch.ones(1, 3, 4), torch.zeros(1, 3, 4)
    corner[0, 0, 0] = -5.0
    assert filters.total_variation(flat) == 0.0 and filters.total_variation(torch.zeros(1, 3, 4)) == 0.0
    assert filters.total_variation(corner) == pytest.approx(2.0)  # to the pixel beside it, and to that below
    middle = torch.zeros(1, 3, 4)
    middle[0, 1, 1] = 0.1
    assert filters.total_variation(torch.cat([corner, middle])) == pytest.approx(3.0)
    stripes = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    assert filters.total_variation(stripes) == pytest.approx(2.0)
    assert filters.total_variation(torch.randn(200, 28, 28)) == pytest.approx(61, abs=1)


def test_each_filter_has_its_own_shades():
    images = torch.tensor([[[-1.0, 0.0, 1.0]], [[2.0, 2.0, 2.5]], [[7.0, 7.0, 7.0]]])
    assert filters.shades(images).tolist() == [[[0, 128, 255]], [[0, 0, 255]], [[0, 0, 0]]]


@pytest.mark.parametrize("boundary", ["post", "half"])
def test_filters_are_those_of_the_weights_that_a_run_begins_and_ends_with(tmp_path, boundary):
    changes = {"rule__name": "lra_diff", "model__boundary": "half"} if boundary == "half" else {}
    assert filters.main([*arguments_of(tmp_path, **changes), "--quiet"]) == 0
    out = tmp_path / "run"
    first, second = (state["block.body.linear.weight"] for state in load_blocks(latest_weights(out))[:2])
    with np.load(out / "filters.npz") as arrays:
        after, before = (torch.from_numpy(arrays[name]) for name in ("after", "before"))
    assert before.shape == (9, 8, 8) and torch.allclose(after.flatten(1), second @ first, atol=1e-6)
    found = json.loads((out / filters.RESULT).read_text())
    assert [found[when] for when in ("before", "after")] == pytest.approx(
        [filters.total_variation(before), filters.total_variation(after)], rel=1e-5
    )
    assert found["before"] != found["after"] and len(found["shown"]) == 8
    assert np.array_equal(filters.pictures(found), filters.shades(after)[:8].numpy())
    run = summary(out)
    assert filter_variation("after")(run) == pytest.approx(found["after"], rel=1e-5)
    assert run["filters"]["shown"] == found["shown"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__width": [], "rule__name": "backprop"}, "hidden blocks of no weights"),
        ({"dataset__name": "signed_xor", "rule__name": "pred"}, "samples of shape (2,), expected: one channel"),
    ],
)
def test_networks_without_such_filters_are_refused_before_they_are_trained(tmp_path, capsys, changes, expected):
    assert filters.main(arguments_of(tmp_path, **changes)) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1 and not (tmp_path / "run").exists()
