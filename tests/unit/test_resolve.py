"""What a config can get wrong beyond its own sections, and what the modes make of a rule."""

import logging
import re

import pytest
import torch
from tests.support.runs import SMALL, merged
from torch import nn

from pipeline.config import Config
from pipeline.data.dataset import ArrayDataset, DataSpec, Normalisation
from pipeline.data.task import Binary, Classification, Logistic
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.resolve import build_rule, resolve
from pipeline.rules.fa import FeedbackAlignment
from pipeline.schedules.actions import one_f_one_b, stream
from pipeline.schedules.schedule import Parallel, Sequential


def resolved(tmp_path, changes=None, model=None):
    return resolve(Config.from_dict(merged(SMALL, changes or {})), tmp_path, model)


def test_options_are_completed(tmp_path):
    found = resolved(tmp_path).config.to_dict()
    assert found["rule"] == {"name": "predsim", "beta": 0.99, "dimdec": 2048, "unsupervised": "none", "alpha": 0.0}
    assert found["optimizer"]["betas"] and found["optimizer"]["gamma"] == 0.25
    assert found["dataset"]["flip"] is False and found["model"]["norm"] == "batch"
    again = Config.from_dict({k: v for k, v in found.items() if v is not None})
    assert resolve(again, tmp_path).config.to_dict() == found


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schedule": {"mode": "sequential"}, "rule": {"name": "fa"}}, "expected: a local rule, e.g. predsim"),
        ({"rule": {"name": "fa"}, "train": {"in_flight": 2, "microbatches": 2}}, "late feedback counts whole batches"),
        ({"rule": {"name": "tests.support.settling_rule"}, "train": {"in_flight": 2}},
         "the rule tests.support.settling_rule supports at most 1 batches in flight (given: train.in_flight = 2). "
         "Lower train.in_flight."),
        ({"schedule": {"mode": "pipedream"}, "train": {"microbatches": 4}},
         "the mode pipedream applies the gradient of every batch by itself (train.microbatches: 4, expected: 1). "
         "Set it to 1; a smaller train.batch_size bounds the memory too."),
        ({"train": {"eval_passes": 5}}, "every pass through this network gives the same (train.eval_passes: 5, "
         'expected: 1, or a network that draws samples, e.g. model.activation = "bernoulli"). Change one of them.'),
        ({"train": {"batch_size": 1436}}, "batch normalisation needs two samples"),
        ({"rule": {"name": "pred"}, "train": {"microbatches": 240}}, "batch normalisation needs two samples"),
        *[({"rule": {"name": rule}, "train": {"microbatches": 4}},
           f"the rule {rule} learns from a batch as a whole, and parts of the batch would give other weights "
           "(train.microbatches: 4, expected: 1). Set train.microbatches to 1; a smaller train.batch_size bounds "
           "the memory too.") for rule in ("sim", "predsim", "sim_bio", "predsim_bio", "glob_sim")],
        ({"optimizer": {"name": "adam", "milestones": [3, 2]}}, "rising, from 1 on"),
        ({"optimizer": {"name": "adam", "lr": -1.0}}, "wrong value for optimizer.lr (given: -1.0"),
        ({"optimizer": {"name": "adam", "milestone": [3]}}, "optimizer.milestone"),
    ],
)
def test_combinations_that_cannot_run(tmp_path, changes, text):
    with pytest.raises(ConfigError, match=re.escape(text)):
        resolved(tmp_path, changes)


@pytest.mark.parametrize(("activation", "caches"), [("sign", True), ("bernoulli", False)])
def test_sampled_activations_are_not_kept(tmp_path, activation, caches):
    changes = {"model": {"activation": activation}, "dataset": {"name": "digits", "crop_padding": 0}}
    found = resolved(tmp_path, {**changes, "schedule": {"mode": "sequential"}})
    assert found.caches is caches


def test_passes_are_known_to_every_stage(tmp_path):
    changes = {"model": {"activation": "bernoulli"}, "train": {"eval_passes": 3}}
    assert resolved(tmp_path, changes).batching.eval_passes == 3


def test_a_rule_that_does_not_fit_a_block(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 10))
    with pytest.raises(ConfigError, match="the rule fa does not fit block 0"):
        resolved(tmp_path, {"rule": {"name": "fa"}}, net)


@pytest.mark.parametrize("freeze", ["", "last"])
def test_a_frozen_block_keeps_the_weights_of_its_user_also_where_the_rule_starts_others_at_0(tmp_path, freeze):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    spec = resolved(tmp_path, {"rule": {"name": "pred"}, "train": {"freeze": freeze}}, net)
    last = build_rule(spec.config, spec.blueprints[-1], spec.specs[-1]).block
    expected = net[-1].weight if freeze else torch.zeros(10, 8)
    assert torch.equal(next(last.parameters()), expected)


@pytest.mark.parametrize(("run", "by_hand"), [
    ({}, True), ({"closed_form": False}, False), ({"autocast": "bfloat16"}, False),
    ({"closed_form": False, "autocast": "bfloat16"}, False),
])  # fmt: skip
def test_dense_blocks_are_differentiated_by_hand_unless_the_run_says_otherwise(tmp_path, run, by_hand):
    spec = resolved(tmp_path, {"rule": {"name": "pred"}, "model": {"norm": "none", "activation": "relu"}, "run": run})
    for k in range(spec.num_blocks):
        rule = build_rule(spec.config, spec.blueprints[k], spec.specs[k])
        assert (rule.dense is not None) == by_hand


@pytest.mark.parametrize("on", [True, False])
def test_a_config_that_an_older_run_recorded_can_be_repeated(tmp_path, on):
    found = resolved(tmp_path, {"rule": {"name": "pred", "closed_form": on}}).config
    assert found.run.closed_form is on and "closed_form" not in found.rule.options


def test_the_users_own_rule_is_told_where_the_switch_is(tmp_path):
    with pytest.raises(ConfigError, match=r"given: rule\.closed_form, .*\. It is run\.closed_form now\. Correct"):
        resolved(tmp_path, {"rule": {"name": "tests.support.louder_decoder", "closed_form": False}})


def net_of(input_shape, num_outputs, *, width=16, activation=nn.ReLU):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), activation(), nn.Linear(width, num_outputs))


def test_defaults_of_the_users_own_function_need_not_fit_into_a_config(tmp_path):
    found = resolved(tmp_path, {"model": {"name": f"{__name__}.net_of", "width": 8}})
    assert found.config.model.options == {"width": 8} and found.shapes[0].body_shape == (8,)


def test_an_output_that_does_not_fit_the_data(tmp_path):
    with pytest.raises(ConfigError, match="7"):
        resolved(tmp_path, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 7)))


@pytest.mark.parametrize(
    ("mode", "rule", "expected"),
    [
        ("parallel", "predsim", "predsim"), ("parallel", "fa", "fa"), ("sequential", "pred", "pred"),
        ("backprop", "predsim", "backprop"), ("backprop", "fa", "backprop"), ("gpipe", "dfa", "backprop"),
        ("gpipe", "fa", "fa"), ("1f1b", "linear_decoder", "backprop"), ("pipedream", "predsim", "backprop"),
        ("pipedream", "dfa", "backprop"), ("pipedream", "fa", "fa"),
    ],
)  # fmt: skip
def test_a_comparison_changes_one_word(tmp_path, mode, rule, expected):
    found = resolved(tmp_path, {"schedule": {"mode": mode}, "rule": {"name": rule}})
    assert found.config.rule.name == expected
    assert isinstance(found.schedule(), Sequential if mode == "sequential" else Parallel)
    assert found.batching.microbatches == (4 if mode in ("gpipe", "1f1b") else 1)
    assert found.batching.order is (one_f_one_b if mode == "1f1b" else stream)
    assert found.batching.in_flight_by_stage == (mode == "pipedream")


def test_topology_and_what_is_in_flight(tmp_path):
    late = {"train": {"in_flight": 3}}
    assert resolved(tmp_path, late).batching.in_flight == 1  # nothing comes back, nothing is late
    for rule, topology in (("dfa", Topology.BROADCAST), ("backprop", Topology.NEIGHBOUR)):
        found = resolved(tmp_path, {"rule": {"name": rule}, **late})
        assert found.topology is topology and found.batching.in_flight == 3
    flush = resolved(tmp_path, {"rule": {"name": "backprop"}, "schedule": {"mode": "gpipe"}, **late})
    assert flush.batching.in_flight == 1


def test_a_rule_bounds_what_is_in_flight(tmp_path, monkeypatch):
    def late(in_flight, **more):
        return {"rule": {"name": "fa"}, "train": {"in_flight": in_flight}, **more}

    monkeypatch.setattr(FeedbackAlignment, "max_in_flight", 2)
    assert resolved(tmp_path, late(2)).batching.in_flight == 2
    with pytest.raises(ConfigError, match=re.escape("the rule fa supports at most 2 batches in flight (given: "
                                                    "train.in_flight = 3). Lower train.in_flight.")):
        resolved(tmp_path, late(3))
    assert resolved(tmp_path, late(3, schedule={"mode": "gpipe"})).batching.in_flight == 1
    with pytest.raises(ConfigError, match=re.escape("the rule fa bounds them (its most: 2, expected: a rule without a "
                                                    "bound, e.g. backprop). Change the rule or the mode.")):
        resolved(tmp_path, late(1, schedule={"mode": "pipedream"}))


def test_no_micro_batch_is_empty(tmp_path):
    plain = {"model": {"norm": "none", "dropout": 0.0}, "rule": {"name": "pred"}}
    few = resolved(tmp_path, {"train": {"batch_size": 2}, "schedule": {"mode": "gpipe"}, **plain})
    assert few.batching.microbatches == 2 and min(few.batching.counts()) == 1
    last = resolved(tmp_path, {"train": {"batch_size": 359, "microbatches": 4}, **plain})
    assert last.batching.counts() == [4, 4, 4, 4, 1]


def test_a_batch_is_at_most_the_data(tmp_path):
    batching = resolved(tmp_path, {"train": {"batch_size": 5000}}).batching
    assert (batching.batch_size, batching.eval_batch_size, batching.num_steps) == (1437, 360, 1)


@pytest.mark.parametrize(("changes", "caches"), [({}, False), ({"dataset": {"crop_padding": 0}}, True)])
def test_augmented_activations_are_not_kept(tmp_path, changes, caches):
    found = resolved(tmp_path, {"schedule": {"mode": "sequential"}, **changes})
    assert found.caches is caches and found.schedule().cached is caches


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": {"name": "pred"}, "train": {"microbatches": 4}}, True),
        ({"schedule": {"mode": "gpipe"}}, True),
        ({"rule": {"name": "pred"}}, False),
        ({"rule": {"name": "pred"}, "train": {"microbatches": 4}, "model": {"norm": "none"}}, False),
    ],
)
def test_statistics_of_micro_batches_are_said(tmp_path, caplog, changes, said):
    with caplog.at_level(logging.WARNING):
        resolved(tmp_path, changes)
    text = (
        "batch normalisation takes its statistics from each micro-batch, 60 samples, and not from the batch of 240: "
        "another function than without micro-batches."
    )
    assert [record.getMessage() for record in caplog.records] == [text] * said


def scaled(root, *, mean: float, std: float):
    """A data set, by dotted name; its images are not read here."""
    spec = DataSpec((1, 8, 8), Classification(10), 100, 10)
    return ArrayDataset("scaled", spec, tuple, normalisation=Normalisation((mean,), (std,)))


@pytest.mark.parametrize(
    ("form", "scale", "said"),
    [
        ("energy", {"mean": 0.1, "std": 1.0}, True),
        ("energy", {"mean": 0.0, "std": 0.5}, True),
        ("energy", {"mean": 0.0, "std": 1.0}, False),
        ("energy", None, False),
        ("prototypical", {"mean": 0.1, "std": 0.3}, False),
    ],
)
def test_samples_that_leave_the_interval_of_states_are_said(tmp_path, caplog, form, scale, said):
    data = {} if scale is None else {"dataset": {"name": f"{__name__}.scaled", **scale}}
    plain = {"name": "mlp", "norm": "none", "dropout": 0.0, "activation": "clip"}
    with caplog.at_level(logging.WARNING):
        resolved(tmp_path, {"rule": {"name": "eqprop", "form": form}, "model": plain, **data})
    text = (
        "eqprop takes samples for states in [0, 1], which normalised ones are not. Leave them as they are, e.g. by "
        "dataset.normalise = false."
    )
    assert [record.getMessage() for record in caplog.records] == [text] * said


@pytest.mark.parametrize(
    ("mode", "rule", "microbatches", "expected"),
    [
        ("parallel", "backprop", 4, one_f_one_b), ("parallel", "dfa", 4, one_f_one_b), ("parallel", "fa", 1, stream),
        ("parallel", "pred", 4, stream), ("backprop", "pred", 4, one_f_one_b), ("gpipe", "pred", 4, stream),
    ],
)  # fmt: skip
def test_parts_of_a_batch_are_learned_from_as_soon_as_may_be(tmp_path, mode, rule, microbatches, expected):
    changes = {"schedule": {"mode": mode}, "rule": {"name": rule}, "train": {"microbatches": microbatches}}
    assert resolved(tmp_path, {**changes, "model": {"norm": "none"}}).batching.order is expected


def test_logistic_outputs_take_the_place_of_softmax_and_leave_one_output_alone(tmp_path):
    for dataset, kind in (("digits", Logistic), ("signed_xor", Binary)):
        config = Config.from_dict({"train": {"loss": "logistic"}, "dataset": {"name": dataset}})
        assert all(type(spec.task) is kind for spec in resolve(config, tmp_path).specs)


def test_batch_norms_are_those_of_the_rules_too(tmp_path):
    changes = {"rule": {"name": "aux", "head": "mlp"}, "model": {"norm": "none"}}
    found = resolved(tmp_path, changes)
    assert found.batch_norms == frozenset(range(found.num_blocks - 1))
    assert resolved(tmp_path, {"rule": {"name": "aux"}, "model": {"norm": "none"}}).batch_norms == frozenset()
    assert resolved(tmp_path).batch_norms == frozenset(range(found.num_blocks - 1))


@pytest.mark.parametrize(("compute", "is_there"), [("real", True), ("sleep", False)])
def test_nothing_is_published_where_compute_is_emulated(tmp_path, compute, is_there):
    chaos = {"compute": compute, **({"compute_s": 0.01} if compute == "sleep" else {})}
    found = resolved(tmp_path, {"rule": {"name": "readout"}, "chaos": chaos})
    assert (found.publication is not None) == is_there
