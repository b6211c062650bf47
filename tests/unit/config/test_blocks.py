import tomllib

import pytest

from pipeline.config import Config, NamedConfig
from pipeline.config.blocks import names_of, of_block, parse_blocks
from pipeline.config.toml_text import to_toml
from pipeline.errors import ConfigError

RULE = {"name": "predsim", "beta": 0.9, "blocks": {"0-1": {"beta": 0.5}, "last": {"name": "pred", "dimdec": 64}}}


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("", []), (0, [0]), ("8", [8]), ("0-3", [0, 1, 2, 3]), ("last", [9]), ("7-last", [7, 8, 9]), ("2-2", [2]),
        (" 4 , 0-1,last", [0, 1, 4, 9]),
    ],
)  # fmt: skip
def test_what_names_blocks(text, blocks):
    assert parse_blocks(text, 10, "train.freeze") == blocks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", r"no blocks are named so \(given: train.freeze has 'a', expected: a block, a range or last"),
        ("-1", "no blocks are named so"), ("1-", "no blocks are named so"), ("0-1-2", "no blocks are named so"),
        ("1,", "no blocks are named so .*has ''"), ("1.5", "no blocks are named so"), ("٣", "no blocks are named so"),
        ("10", r"there are no such blocks \(given: train.freeze has '10', expected: rising, within 0 to 9"),
        ("3-1", "there are no such blocks"), ("last-0", "there are no such blocks"), ("8-12", "there are no such bl"),
        ("0-3,2", r"a block is named twice \(given: train.freeze has block 2 twice, in '0-3,2'\)"),
    ],
)  # fmt: skip
def test_what_names_none(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_blocks(text, 10, "train.freeze")


def test_a_config_with_sections_of_blocks_is_written_and_read_back():
    config = Config.from_dict({"rule": RULE, "optimizer": {"blocks": {"3": {"lr": 0.5}}}})
    assert config.rule.blocks == RULE["blocks"] and "blocks" not in config.rule.options
    text = to_toml(config.to_dict())
    assert '[rule.blocks.0-1]\nbeta = 0.5\n' in text
    assert Config.from_dict(tomllib.loads(text)) == config
    assert "blocks" not in Config().to_dict()["rule"] and names_of(config.rule) == "predsim+pred"


def test_a_block_has_the_options_above_it_but_for_its_own():
    rule = Config.from_dict({"rule": RULE}).rule
    assert of_block(rule, 1, 5, "rule") == NamedConfig(name="predsim", options={"beta": 0.5})
    assert of_block(rule, 2, 5, "rule") == NamedConfig(name="predsim", options={"beta": 0.9})
    assert of_block(rule, 4, 5, "rule") == NamedConfig(name="pred", options={"dimdec": 64})


def test_another_optimizer_keeps_the_rate_and_its_course_alone():
    chosen = Config.from_dict({"optimizer": {
        "name": "adam", "lr": 0.1, "milestones": [3], "betas": [0.5, 0.9], "blocks": {"0": {"name": "sgd"}},
    }}).optimizer  # fmt: skip
    assert of_block(chosen, 0, 2, "optimizer").options == {"lr": 0.1, "milestones": [3]}


def test_overrides_reach_single_blocks_and_another_rule_drops_them():
    config = Config.from_dict({"rule": RULE})
    found = config.overridden(["rule.blocks.0-1.beta=0.25", "optimizer.blocks.last.lr=3"])
    assert found.rule.blocks["0-1"] == {"beta": 0.25} and found.optimizer.blocks == {"last": {"lr": 3}}
    assert config.overridden(["rule.name=sim"]).rule == NamedConfig(name="sim")
    both = ["rule.blocks.0.name=pred", "rule.blocks.0.dimdec=9", "rule.name=sim"]
    for overrides in (both, both[::-1]):  # what is given with a name stays, in whatever order
        assert config.overridden(overrides).rule.blocks == {"0": {"name": "pred", "dimdec": 9}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rule.blocks.0=1", "cannot read the override"), ("model.blocks.0.name=a", "cannot read the override"),
        ("rule.blocks.0.name.a=1", "cannot read the override"),
        ("rule.name.0.a=1", "cannot read the override"),
    ],
)
def test_overrides_of_no_form(override, said):
    with pytest.raises(ConfigError, match=said):
        Config().overridden([override])


def test_what_is_no_section():
    with pytest.raises(ConfigError, match=r"wrong value for rule.blocks.\"0\" \(given: 3, expected: a section"):
        Config.from_dict({"rule": {"blocks": {"0": 3}}})
    with pytest.raises(ConfigError, match=r"wrong value for rule.blocks.\"0\".name \(given: 3, int, expected: text"):
        Config.from_dict({"rule": {"blocks": {"0": {"name": 3}}}})
    with pytest.raises(ConfigError, match=r"two sections are for one block .*block 1 in \"0-1\" and in \"1\","):
        of_block(Config.from_dict({"rule": {"blocks": {"0-1": {}, "1": {}}}}).rule, 0, 4, "rule")
