"""Mutated configs: each can be placed, or is refused in one line. Nothing is trained, so that a valid but huge one
costs no time."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import memory, registry
from pipeline.config import load_config, section_options
from pipeline.errors import ConfigError
from pipeline.optim.optimizers import optimizer_options
from pipeline.optim.options import common_options
from pipeline.resolve import resolve
from pipeline.schedules.modes import MODES
from workers import placement
from workers.placement import Host, place

USUAL, FULL = 60, 10_000
BASE = Path(__file__).resolve().parents[2] / "configs" / "digits.toml"
PACKAGES = {"rule": "pipeline.rules", "model": "pipeline.models", "dataset": "pipeline.datasets"}


def keys_of(section, name):
    """The options of a thing."""
    if section == "optimizer":
        return [f"optimizer.{key}" for key in (*optimizer_options()[name], *registry.options_of(common_options))]
    return [f"{section}.{key}" for key in registry.options_of(registry.load(PACKAGES[section], name, section))]


FIXED = ["seed", *(f"{name}.{key}" for name, options in section_options().items() for key in options)]
"""Keys of the sections that name nothing."""


NAMES = {
    "rule.name": registry.known("pipeline.rules"), "model.name": registry.known("pipeline.models"),
    "dataset.name": ["noise", "signed_xor", "digits", "mnist", "image_folder"],
    "optimizer.name": list(optimizer_options()), "transport.name": ["auto", *registry.known("workers.transports")],
    "schedule.mode": [mode.name for mode in MODES],
}  # fmt: skip

USUAL_NUMBERS = st.one_of(st.integers(1, 8), st.floats(0, 1), st.booleans(), st.lists(st.integers(1, 8), min_size=1,
                                                                                      max_size=3))  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-2, 40), st.sampled_from([2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400, 999, 65_536]),
    st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, -0.0, 1e30, 1e-45, 1e308, 0.5, 1.0]),
)  # fmt: skip
WORDS = st.one_of(
    st.text(max_size=8), st.sampled_from(["auto", "none", "batch", "", "nan", "a.b", "pipeline.rules", ".", "[", "\0"])
)
VALUES = st.one_of(NUMBERS, st.booleans(), WORDS, st.lists(NUMBERS, max_size=4), st.lists(WORDS, max_size=2),
                   st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2))  # fmt: skip


@st.composite
def overrides(draw):
    """Up to five, named things first so that options meet things that have them."""
    chosen = {}
    for key in draw(st.lists(st.sampled_from(list(NAMES)), max_size=3, unique=True)):
        chosen[key] = draw(st.sampled_from(NAMES[key]))
    options = list(FIXED)
    for section, default in (("rule", "predsim"), ("model", "mlp"), ("dataset", "digits"), ("optimizer", "adam")):
        options += 3 * keys_of(section, chosen.get(f"{section}.name", default))
    for key in draw(st.lists(st.sampled_from(options), max_size=3, unique=True)):
        chosen[key] = draw(st.one_of(st.integers(0, 1), USUAL_NUMBERS, USUAL_NUMBERS, NUMBERS, VALUES))
    if draw(st.integers(0, 19)) == 0:
        chosen[draw(st.sampled_from([*NAMES, "rule.x", "x.y", "train", "optimizer.payload"]))] = draw(VALUES)
    return [f"{key}={spelled(value)}" for key, value in chosen.items()]


def spelled(value):
    """As it is typed: TOML, but for text that is not."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {spelled(v)}" for k, v in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    return str(value)


def examples(request, usual, full):
    return settings(
        max_examples=full if request.config.getoption("--full") else usual, derandomize=True, deadline=None,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.fixture
def small_host(monkeypatch):
    """Too small for what takes long to build, and in no need of measuring."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 * 2**20)
    monkeypatch.setattr(placement, "block_costs", lambda resolved, *_: [1.0] * resolved.num_blocks)


def test_a_config_can_be_placed_or_is_refused_in_one_line(request, small_host, tmp_path):
    outcomes = {True: 0, False: 0}

    @examples(request, USUAL, FULL)
    @given(overrides())
    def check(given_overrides):
        try:
            config = load_config(BASE, given_overrides).config
            place(resolve(config, tmp_path), Host(cores=4, num_gpus=0))
            outcomes[True] += 1
        except ConfigError as error:
            outcomes[False] += 1
            assert str(error) and len(str(error)) < 2500

    check()
    assert min(outcomes.values()) > 0.05 * sum(outcomes.values()), outcomes  # neither is all that happens


@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_a_damaged_file_is_refused_in_one_line(request, tmp_path, cut):
    text = BASE.read_bytes()

    @examples(request, 20, 100)
    @given(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(0, 255)), max_size=4))
    def check(flips):
        damaged = bytearray(text[: len(text) - cut])
        for position, value in flips:
            if position < len(damaged):
                damaged[position] = value
        (tmp_path / "config.toml").write_bytes(damaged)
        try:
            load_config(tmp_path / "config.toml")
        except ConfigError as error:
            assert "\n" not in str(error)

    check()
