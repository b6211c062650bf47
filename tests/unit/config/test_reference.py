"""The config's reference is that of the dataclasses, whole, and every key in it can be given."""

import dataclasses
import re
from pathlib import Path

import pytest

from pipeline.config import Config, NamedConfig, section_options
from pipeline.config.reference import reference, texts_of_fields

PAGE = Path(__file__).resolve().parents[3] / "docs" / "config.md"
SECTIONS = [
    getattr(Config(), field.name) for field in dataclasses.fields(Config)
    if dataclasses.is_dataclass(getattr(Config(), field.name)) and field.type is not NamedConfig
]  # fmt: skip


def test_the_page_is_what_the_dataclasses_say():
    text = "run python -m pipeline.config.reference > docs/config.md"
    assert PAGE.read_text(encoding="utf8") == reference(), text


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: type(s).__name__)
def test_every_key_says_what_it_means(section):
    texts = texts_of_fields(type(section))
    assert [field.name for field in dataclasses.fields(section) if len(texts.get(field.name, "")) < 8] == []


def test_every_key_is_there_and_can_be_given_its_default():
    items = dict(re.findall(r"^- \*\*`([\w.]+)`\*\* = `([^`]*)`", PAGE.read_text(encoding="utf8"), re.M))
    keys = {f"{section}.{key}" for section, options in section_options().items() for key in options}
    assert keys < items.keys() and len(items) == len(keys) + 5  # the seed, and four names
    assert Config().overridden([f"{key}={value}" for key, value in items.items()]) == Config()
