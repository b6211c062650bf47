"""The grid of a sweep, from what was typed."""

import pytest

from pipeline.config import Config
from pipeline.errors import ConfigError
from workers.sweep.axes import Grid

BASE = Config.from_dict({"optimizer": {"name": "adam", "lr": 0.1}, "rule": {"name": "predsim"}})


def cells(*given, overrides=()):
    return Grid(BASE, given, overrides).cells()


def test_every_value_of_one_key_meets_every_value_of_the_others():
    found = cells("optimizer.lr=1e-3,3e-3", "rule.beta=0.9, 0.99")
    assert [cell.name for cell in found] == [
        "optimizer.lr=0.001,rule.beta=0.9", "optimizer.lr=0.001,rule.beta=0.99", "optimizer.lr=0.003,rule.beta=0.9",
        "optimizer.lr=0.003,rule.beta=0.99",
    ]  # fmt: skip
    assert found[1].values == {"optimizer.lr": 0.001, "rule.beta": 0.99}
    assert found[1].config == BASE.overridden(["optimizer.lr=1e-3", "rule.beta=0.99"])


def test_lists_and_quotes_stay_whole_and_names_are_those_of_folders():
    first, second = cells("model.width=[8, 16],[8]", "model.activation='a,/b'")
    assert first.values == {"model.width": [8, 16], "model.activation": "a,/b"}
    assert "/" not in first.name and first.name != second.name and first.name.startswith("model.width=_8,_16_,")
    (long,) = cells(f"model.activation={'a' * 300}")
    assert len(long.name) < 120


def test_a_thing_that_is_named_brings_its_own_options():
    sim, dfa = cells("rule.name=sim,dfa")
    assert sim.config.rule.name == "sim" and dfa.config.rule.name == "dfa"


WRONG = {
    "no key": (["1e-3,3e-3"], "cannot read what is swept (given: --sweep '1e-3,3e-3'"),
    "no value": (["optimizer.lr="], "cannot read what is swept (given: --sweep 'optimizer.lr='"),
    "an empty value": (["optimizer.lr=1,,2"], "cannot read what is swept (given: --sweep 'optimizer.lr=1,,2'"),
    "a key twice": (["optimizer.lr=1", "optimizer.lr=2"], "a key is given twice (given: optimizer.lr"),
    "a value twice": (["optimizer.lr=1e-3,0.001"], "a value is given twice (given: --sweep optimizer.lr=1e-3,0.001"),
    "seeds": (["seed=1,2"], "seeds are no values to choose between (given: --sweep seed=1,2, expected: --repeat N"),
    "an unknown key": (["train.epoch=1,2"], "unknown key (given: train.epoch"),
    "an unknown section": (["optimiser.lr=1,2"], "unknown section (given: optimiser"),
    "a wrong value": (["train.epochs=1,0"], "train.epochs"),
    "too many": ([f"train.epochs={','.join(map(str, range(1, 200)))}", f"seed.x={','.join(map(str, range(99)))}"],
                 "too many cells (given: 19701, expected: at most 10000)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_grid(name):
    given, text = WRONG[name]
    with pytest.raises(ConfigError) as found:
        cells(*given)
    assert text in str(found.value)


def test_a_key_is_swept_or_set():
    with pytest.raises(ConfigError, match="a key is given twice .given: optimizer.lr, expected: once, in --sweep"):
        cells("optimizer.lr=1,2", overrides=["optimizer.lr=3"])
