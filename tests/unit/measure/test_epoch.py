"""What is measured of a network whose weights are known."""

import pytest
import torch
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.measure.epoch import Measurement, with_credit
from pipeline.measure.neighbours import neighbours_accuracy
from pipeline.measure.samples import load_samples
from pipeline.measure.whole_network import WholeNetwork
from pipeline.resolve import build_rule, resolve

CPU = torch.device("cpu")
XOR = {
    "dataset": {"name": "signed_xor", "num_train": 200, "num_test": 100},
    "model": {"name": "mlp", "depth": 3, "width": [12, 6], "activation": "tanh", "norm": "none"},
}  # fmt: skip


def resolved_of(tmp_path, **changes):
    changes["measure"] = {"every": 1, "probe_samples": 50, "readout_samples": 120, **changes.get("measure", {})}
    return resolve(Config.from_dict(merged(SMALL, changes)), tmp_path)


def test_the_probe_is_fixed_never_augmented_and_has_no_sample_twice(tmp_path):
    resolved = resolved_of(tmp_path)
    assert resolved.data.is_augmented
    first, second = load_samples(resolved, tmp_path, CPU), load_samples(resolved, tmp_path, CPU)
    assert torch.equal(first.batch[0], second.batch[0]) and torch.equal(first.batch[1], second.batch[1])
    assert [len(y) for _, y in (first.batch, first.fit, first.shown)] == [50, 120, 360]  # the test set has no more
    assert len(first.fit[0].flatten(1).unique(dim=0)) == 120
    x, _ = first.test.batch(0, 0)
    assert bool((x[0] == first.shown[0]).flatten(1).all(1).any())


def test_blocks_without_a_decoder_are_read_out(tmp_path):
    resolved = resolved_of(tmp_path, rule={"name": "dfa"}, measure={"angles": False})
    row = Measurement(resolved, tmp_path, CPU).epoch(0, None, layout=False)
    assert row["angle_deg"] is None and [b["angle_deg"] for b in row["blocks"]] == [None] * 5
    assert [b["test_accuracy"] is None for b in row["blocks"]] == [True] * 4 + [False]
    assert [b["readout_accuracy"] is None for b in row["blocks"]] == [False] * 4 + [True]
    # Random features of the digits can be read far above chance, and the untrained output cannot.
    assert row["blocks"][0]["readout_accuracy"] > 0.7 > 0.3 > row["blocks"][-1]["test_accuracy"]


def test_a_read_out_is_scored_once_for_several_passes(tmp_path):
    sampling = {"model": {"name": "mlp", "depth": 2, "width": 16, "norm": "none", "activation": "bernoulli"}}
    resolved = resolved_of(tmp_path, rule={"name": "dfa"}, train={"eval_passes": 3}, **sampling)
    row = Measurement(resolved, tmp_path, CPU).epoch(0, None, layout=False)
    assert all(0 < b["readout_accuracy"] <= 1 for b in row["blocks"][:-1])


def test_nothing_that_was_not_asked_for(tmp_path):
    resolved = resolved_of(tmp_path, measure={"accuracies": False, "updates": False})
    measurement = Measurement(resolved, tmp_path, CPU)
    row = measurement.epoch(0, None, layout=True)
    names = ("test_accuracy", "readout_accuracy", "update", "neighbours_accuracy")
    assert all(b[name] is None for b in row["blocks"] for name in names)
    assert row["blocks"][-1]["angle_deg"] == pytest.approx(0.0, abs=1e-3) and measurement.arrays() == {}


def test_weights_that_moved_since_the_measurement_before(tmp_path):
    """Matrices of the block: its bias, and the decoder that the rule adds, do not count."""
    resolved = resolved_of(tmp_path, rule={"name": "pred"}, measure={"angles": False, "accuracies": False}, **XOR)
    states = [
        {k: v.clone() for k, v in build_rule(resolved.config, b, s).state_dict().items()}
        for b, s in zip(resolved.blueprints, resolved.specs)
    ]
    measurement = Measurement(resolved, tmp_path, CPU)
    found = [measurement.epoch(0, None, layout=False)]
    for name, value in states[0].items():
        value *= 1.25 if name == "block.body.linear.weight" else 3.0
    found += [measurement.epoch(k, states, layout=False) for k in (1, 2)]
    updates = [[block["update"] for block in row["blocks"]] for row in found]
    last = None  # its weights begin at 0 under this rule
    assert updates == [[None] * 3, [pytest.approx(0.25, rel=1e-6), 0.0, last], [0.0, 0.0, last]]


@pytest.mark.parametrize("rule", ["linear_decoder", "backprop"])
def test_maps_show_the_decoder_or_the_read_out_of_every_block(tmp_path, rule):
    resolved = resolved_of(tmp_path, rule={"name": rule}, measure={"maps": True}, **XOR)
    measurement = Measurement(resolved, tmp_path, CPU)
    measurement.epoch(0, None, layout=False)
    maps = measurement.arrays()["maps"]
    assert maps["values"].shape == (1, 3, 60, 60) and maps["levels"].shape == (1, 3)
    assert maps["x_axis"][0] == -1 and maps["y_axis"][-1] == 1 and maps["points"].shape == (120, 2)
    corner = torch.tensor([[-1.0, 1.0]])  # first column, last row
    decoded = WholeNetwork(resolved, 0, None, CPU).look(corner, torch.zeros(1, dtype=torch.int64))
    for k, scores in enumerate(decoded):
        if scores is not None:
            assert maps["values"][0, k, -1, 0] == pytest.approx(scores.item(), abs=1e-5)
    assert [scores is None for scores in decoded] == [rule == "backprop"] * 2 + [False]


def test_layouts_of_the_blocks_that_were_named(tmp_path):
    resolved = resolved_of(tmp_path, measure={"tsne": [3, 0], "tsne_samples": 20, "accuracies": False})
    measurement = Measurement(resolved, tmp_path, CPU)
    rows = [measurement.epoch(epoch, None, layout=epoch != 1) for epoch in (0, 1, 2)]
    tsne = measurement.arrays()["tsne"]
    assert tsne["epochs"].tolist() == [0, 2] and tsne["blocks"].tolist() == [3, 0]
    assert tsne["points"].shape == (2, 2, 20, 2) and tsne["labels"].shape == (20,)
    votes = [[neighbours_accuracy(points, tsne["labels"]) for points in at] for at in tsne["points"]]
    found = [[block["neighbours_accuracy"] for block in row["blocks"]] for row in rows]
    (third, first), (third_later, first_later) = votes
    assert found == [[first, None, None, third, None], [None] * 5, [first_later, None, None, third_later, None]]


def test_the_rule_is_in_the_state_of_the_last_epoch_trained(tmp_path, monkeypatch):
    seen = []
    resolved = resolved_of(tmp_path)
    kind = type(build_rule(resolved.config, resolved.blueprints[0], resolved.specs[0]))
    monkeypatch.setattr(kind, "begin_epoch", lambda self, epoch: seen.append(epoch))
    for num_epochs in (0, 1, 7):
        WholeNetwork(resolved, num_epochs, None, CPU)
    assert sorted(set(seen)) == [0, 6]


@pytest.mark.parametrize(
    ("trained", "credits", "depth"),
    [
        ({}, [None, None], None), ({1: {"credit": 0.25}}, [None, 0.25], 0.25),
        ({0: {"credit": 0.5}, 1: {"credit": 1.0}}, [0.5, 1.0], 1.5), ({0: {"credit": None}}, [None, None], None),
    ],
)  # fmt: skip
def test_the_depth_of_credit_is_the_sum_over_blocks(trained, credits, depth):
    row = with_credit({"epoch": 1, "blocks": [{"block": 0}, {"block": 1}]}, trained)
    assert [b["credit"] for b in row["blocks"]] == credits and row["depth_of_credit"] == depth
