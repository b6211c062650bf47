"""Measurements that cannot be had are refused before the run."""

import pytest
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import resolve

XOR = {"dataset": {"name": "signed_xor"}, "model": {"name": "mlp", "depth": 2, "width": 8}}


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        ({"maps": True}, r"no map can be drawn \(given: measure.maps with samples of shape \(1, 8, 8\) and 10 out"),
        ({"tsne": [0, 5]}, r"no such block \(given: measure.tsne has 5, expected: 0 to 4\)\. Correct it"),
        ({"tsne": [7, 5]}, r"no such block \(given: measure.tsne has 7"),
    ],
)
def test_what_cannot_be_measured(tmp_path, measure, text):
    with pytest.raises(ConfigError, match=text):
        resolve(Config.from_dict(merged(SMALL, {"measure": {"every": 1, **measure}})), tmp_path)
    unmeasured = resolve(Config.from_dict(merged(SMALL, {"measure": measure})), tmp_path)
    assert unmeasured.config.measure.every == 0  # nothing is asked for


SINE = {"dataset": {"name": "sine", "length": 4}, "model": {"name": "rnn", "width": 3}, "rule": {"name": "backprop"},
        "train": {"batch_size": 50}}  # fmt: skip


@pytest.mark.parametrize(
    ("measure", "dataset", "said"),
    [
        ({"accuracies": True, "maps": True}, {}, "given: measure.accuracies, measure.maps, expected: none of them"),
        ({"tsne": [0]}, {}, r"given: measure.tsne, expected: none of them\). Set accuracies and maps to false"),
        ({}, {"chunk": 2}, "given: measure.every = 1 with labels that are chunks of sequences, expected: 0"),
    ],
)
def test_of_numbers_there_are_angles_and_updates_alone(tmp_path, measure, dataset, said):
    plain = merged(SINE, {"measure": {"every": 1, "accuracies": False}})
    assert resolve(Config.from_dict(plain), tmp_path).config.measure.every == 1
    with pytest.raises(ConfigError, match=said):
        resolve(Config.from_dict(merged(plain, {"measure": measure, "dataset": dataset})), tmp_path)


@pytest.mark.parametrize(("measure", "warned"), [({"maps": True}, 1), ({"tsne": [0]}, 1), ({"angles": True}, 0)])
def test_what_is_asked_for_and_never_measured_is_said(tmp_path, caplog, measure, warned):
    resolve(Config.from_dict(merged(SMALL, {"measure": measure})), tmp_path)
    text = "no map and no t-SNE is made of a run that is not measured (measure.every: 0). Set it to 1 or more."
    assert [record.getMessage() for record in caplog.records] == [text] * warned


def test_two_numbers_and_two_classes_can_be_drawn(tmp_path):
    changes = {**XOR, "measure": {"every": 1, "maps": True, "tsne": [0, 2]}}
    assert resolve(Config.from_dict(merged(SMALL, changes)), tmp_path).config.measure.maps


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("every", -1, "at least 0"), ("every", 1.5, "a whole number"), ("probe_samples", 1, "at least 2"),
        ("readout_samples", 1, "at least 2"), ("tsne_samples", 3, "at least 4"), ("tsne", 2, "a list in which each"),
        ("maps", 1, "true or false"), ("angels", True, "Did you mean 'angles'"),
    ],
)  # fmt: skip
def test_wrong_values(key, value, text):
    with pytest.raises(ConfigError, match=rf"(wrong value for|unknown key \(given:) measure\.{key}.*{text}"):
        Config.from_dict({"measure": {key: value}})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train": {"patience": 3}}, r"no validation set to stop by \(given: train\.patience = 3 with no validation"),
        ({"dataset": {"validation": 0.1}, "chaos": {"compute": "sleep"}, "measure": {"every": 0}},
         r"compute cannot be emulated .* with 144 samples for validation, expected: none"),
    ],
)
def test_what_cannot_be_chosen_by(tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text):
        resolve(Config.from_dict(merged(SMALL, changes)), tmp_path)
