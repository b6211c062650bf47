"""Every numeric option of every group declares its range, and no number outside of it gets through."""

import math
import typing
from typing import Annotated

import pytest

from pipeline import registry
from pipeline.config import Config, RunConfig, TrainConfig, section_options
from pipeline.errors import ConfigError
from pipeline.optim.optimizers import load_optimizer, optimizer_options
from pipeline.optim.options import common_options
from pipeline.ranges import range_of
from pipeline.values import check_value

PACKAGES = {"rule": "pipeline.rules", "model": "pipeline.models", "dataset": "pipeline.datasets",
            "transport": "workers.transports"}  # fmt: skip


def groups():
    """Each group of options: its name, and the annotation of each option."""
    for section, package in PACKAGES.items():
        for name in registry.known(package):
            build = registry.load(package, name, section)
            yield f"{section}.{name}", {k: p.annotation for k, p in registry.options_of(build).items()}
    for name, options in optimizer_options().items():
        yield f"optimizer.{name}", {k: p.annotation for k, p in options.items()}
    yield "optimizer", {k: p.annotation for k, p in registry.options_of(common_options).items()}
    yield "", {"seed": typing.get_type_hints(Config, include_extras=True)["seed"]}
    for name, options in section_options().items():
        yield name, {k: p.annotation for k, p in options.items()}


GROUPS = dict(groups())


def numbers(annotation):
    """Every number in an annotation, with its range where it has one."""
    if typing.get_origin(annotation) is Annotated:
        yield from ((n, range_of(annotation)) for n, _ in numbers(typing.get_args(annotation)[0]))
    elif annotation in (int, float):
        yield annotation, None
    elif typing.get_origin(annotation) is not typing.Literal:
        for nested in typing.get_args(annotation):
            yield from numbers(nested)


@pytest.mark.parametrize("group", GROUPS)
def test_every_numeric_option_declares_its_range(group):
    missing = [key for key, annotation in GROUPS[group].items() if any(r is None for _, r in numbers(annotation))]
    assert missing == []


def test_the_walk_finds_the_numbers_there_are():
    """A walk that found none would pass."""
    found = {f"{g}.{k}" for g, options in GROUPS.items() for k, a in options.items() if list(numbers(a))}
    assert {"model.mlp.width", "rule.dtp.noise", "dataset.noise.shape", "optimizer.adam.betas", "optimizer.gamma",
            "train.epochs", "run.partition", "snapshot.keep", ".seed",
            "dataset.cifar10.crop_padding"} <= found  # fmt: skip
    assert len(found) > 100


CASES = [(g, k, r) for g, options in GROUPS.items() for k, a in options.items() for _, r in numbers(a)]


@pytest.mark.parametrize(("group", "key", "allowed"), CASES, ids=[f"{g}.{k}" for g, k, _ in CASES])
def test_numbers_outside_are_refused_in_one_line(group, key, allowed):
    annotation = GROUPS[group][key]
    for value in (math.nan, math.inf, -math.inf, *beyond(allowed)):
        given = [value] if "list" in str(annotation) or "tuple" in str(annotation) else value
        with pytest.raises(ConfigError, match=r"^wrong value for x \(given: .*expected: .*\)\. Change it\.$"):
            check_value(given, annotation, "x")


def beyond(allowed):
    yield allowed.low if allowed.above else allowed.low - max(1, abs(allowed.low))
    yield allowed.high if allowed.below else allowed.high + max(1, abs(allowed.high))


@pytest.mark.parametrize("value", ["nan", "inf", "-0.1", "1"])
def test_pairs_of_an_optimizer_are_refused_too(value):
    with pytest.raises(ConfigError, match="optimizer.betas"):
        load_optimizer("adam", {"betas": [0.9, float(value)]})


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"train": {"epochs": 2**40}}, "train.epochs .given: 1099511627776, expected: at least 1, at most 2147483647"),
        ({"schedule": {"tolerance": math.nan}}, "schedule.tolerance"),
        ({"seed": -1}, "seed .given: -1, expected: at least 0"),
        ({"run": {"partition": [2, 0]}}, "run.partition"),
        ({"run": {"timeout_s": math.inf}}, "run.timeout_s .given: inf.*expected: above 0, at most 1e6|a finite number"),
        ({"measure": {"probe_samples": 1}}, "measure.probe_samples .given: 1, expected: at least 2"),
    ],
)
def test_sections_refuse_what_is_outside(table, text):
    with pytest.raises(ConfigError, match=text):
        Config.from_dict(table)


def test_a_section_made_in_python_is_checked_as_well():
    with pytest.raises(ConfigError, match=r"wrong value for train.in_flight \(given: 0, expected: at least 1"):
        TrainConfig(in_flight=0)
    with pytest.raises(ConfigError, match=r"run.partition \(given: \[2, 0\], expected: each at least 1, at most"):
        RunConfig(partition=[2, 0])
    with pytest.raises(ConfigError, match=r"wrong value for run.stages \(given: 0, expected: at least 1"):
        RunConfig(stages=0)


def own(block, spec, *, rate: float = 0.5):
    """A rule of a user's, whose option has a type and no range."""


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400])
def test_numbers_are_finite_where_no_range_is_declared(value):
    with pytest.raises(ConfigError, match="expected: finite numbers|expected: a number"):
        registry.check_options(own, {"rate": value}, "rule")
