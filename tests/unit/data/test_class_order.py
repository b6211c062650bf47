"""Batches of few classes."""

import pytest
import torch
from tests.support.runs import SMALL, merged, sha

from pipeline.checks import check_classes
from pipeline.config import Config
from pipeline.data.class_order import ClassLimit, limited_order
from pipeline.data.dataset import DataSpec
from pipeline.data.task import Binary, Classification, Task
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.resolve import resolve
from pipeline.schedules.batching import Declared


def batches_of(labels, batch_size, num_drawn, seed=0):
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    found = limited_order(order, labels, batch_size, num_drawn)
    return order, [labels[part] for part in found.split(batch_size)], found


@pytest.mark.parametrize(("count", "batch_size", "num_drawn"), [(1000, 64, 4), (333, 50, 20), (40, 64, 2), (64, 8, 8)])
def test_every_sample_comes_once(count, batch_size, num_drawn):
    labels = torch.randint(50, (count,))
    _, _, found = batches_of(labels, batch_size, num_drawn)
    assert found.dtype == torch.int64 and sorted(found.tolist()) == list(range(count))


def test_a_batch_has_as_many_classes_as_were_drawn_until_they_run_out():
    labels = torch.arange(10_000) % 100
    _, batches, _ = batches_of(labels, 100, 20)
    kinds = [len(set(batch.tolist())) for batch in batches]
    assert all(10 <= kind <= 20 for kind in kinds[:50]) and max(kinds) > 20  # what is left at the end is anything


def test_more_are_drawn_until_they_are_of_so_many_classes():
    """Long runs of one class: 3 drawn samples would be of one."""
    labels = torch.tensor([0] * 10 + [1] * 10 + [2] * 3 + [3] * 10 + [1] * 7)
    found = limited_order(torch.arange(40), labels, 25, 3)
    assert found[:25].tolist() == [*range(21), 21, 22, 33, 34]  # drawn up to the first of class 2, then filled up


def test_the_order_of_the_epoch_is_kept_within_drawn_and_filled_samples():
    order, _, found = batches_of(torch.randint(6, (200,)), 40, 2)
    place = {int(i): k for k, i in enumerate(order)}
    first = [place[int(i)] for i in found[:40]]
    assert first[:2] == [0, 1] and first[2:] == sorted(first[2:])


def test_until_an_epoch():
    assert ClassLimit(20).holds(1000)
    assert [ClassLimit(20, 2).holds(epoch) for epoch in range(4)] == [True, True, False, False]


def test_the_same_weights_on_any_number_of_stages_and_others_than_without(tmp_path):
    limited = {"train": {"epochs": 2, "classes_per_batch": 3, "classes_until_epoch": 1}}
    one = sha(tmp_path / "one", limited)
    assert sha(tmp_path / "two", {**limited, "run": {"stages": 2}}) == one
    assert sha(tmp_path / "any", {"train": {"epochs": 2}}) != one


def test_kept_outputs_of_frozen_blocks_change_no_bit(tmp_path):
    """They are in the order of the data set, which is not that of such batches."""
    sequential = {
        "dataset": {"crop_padding": 0}, "model": {"depth": 2},
        "train": {"epochs": 2, "classes_per_batch": 2}, "schedule": {"mode": "sequential"},
    }  # fmt: skip
    kept, afresh = (sha(tmp_path / how, merged(sequential, {"schedule": {"cache": how}})) for how in ("memory", "off"))
    assert kept == afresh


def test_a_rule_that_asks_for_the_places_of_samples_is_refused(tmp_path):
    """They are found from the seed alone, without the labels."""
    table = merged(SMALL, {"rule": {"name": "tests.support.noting_rule"}, "train": {"classes_per_batch": 2}})
    with pytest.raises(ConfigError, match=r"asks which samples a batch has.*\(given: train.classes_per_batch = 2, exp"):
        resolve(Config.from_dict(table), tmp_path)


@pytest.mark.parametrize("train", [{"classes_per_batch": 241}, {"classes_until_epoch": 2}])
def test_what_cannot_be_drawn(train):
    table = merged(SMALL, {"train": train})
    with pytest.raises(ConfigError, match=r"a batch is drawn from some of its own samples' classes \(given: train"):
        Config.from_dict(table)


def check(task, num_drawn):
    """What is said to a data set of such a task, of a rule that asks for nothing."""
    config = Config.from_dict(merged(SMALL, {"train": {"classes_per_batch": num_drawn}}))
    data = DataSpec(input_shape=(2,), num_train=10, num_test=10, task=task)
    check_classes(config, data, Declared(Topology.LOCAL, True, None))


@pytest.mark.parametrize(("task", "num_drawn", "count"), [
    (Binary(), 2, 2), (Classification(4), 4, 4), (Classification(10), 64, 10),
])  # fmt: skip
def test_batches_that_would_have_all_classes(task, num_drawn, count):
    """As many as are drawn, and ten at most, are always looked for."""
    with pytest.raises(ConfigError, match=rf"no fewer classes \(given: .* = {num_drawn} with {count} classes"):
        check(task, num_drawn)
    check(Classification(count + 1), num_drawn)


def test_samples_without_a_class():
    class Other(Classification):
        pass

    check(Other(3), 2)
    check(Binary(), 1)
    unlabelled = type("Unlabelled", (Task,), {name: lambda *a: None for name in Task.__abstractmethods__})()
    with pytest.raises(ConfigError, match=r"samples have no class to be chosen by \(given: .* a task of Unlabelled"):
        check(unlabelled, 2)
