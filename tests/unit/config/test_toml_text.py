import math
import tomllib

import pytest

from pipeline.config.toml_text import to_toml


@pytest.mark.parametrize(
    "value",
    [
        0, -3, 10**18, True, False, 0.0, 1.0, 1e-05, 5e-324, 1e22, 1.7976931348623157e308, 0.1 + 0.2,
        math.inf, -math.inf, "", "plain", "a \"quoted\" 'one'", "C:\\new\\x", "tab\tline\nreturn\rbell\x07null\x00",
        "\x7f", "déjà vu ✓ 漢", "true", "3", [], [1, 2], [0.5, 1.0], ["a", "b\n"], [True, False], [[1], [2, 3], []],
    ],
)  # fmt: skip
def test_tomllib_gives_it_back(value):
    text = to_toml({"top": value, "section": {"key": value, "after": 1}})
    found = tomllib.loads(text)
    assert found == {"top": value, "section": {"key": value, "after": 1}}
    assert type(found["top"]) is type(value)


def test_nan():
    assert math.isnan(tomllib.loads(to_toml({"x": math.nan}))["x"])


def test_tuples_become_arrays_and_none_is_left_out():
    table = {"a": None, "b": (1, 2), "empty": {}, "s": {"c": None, "d": 3}}
    assert tomllib.loads(to_toml(table)) == {"b": [1, 2], "empty": {}, "s": {"d": 3}}


def test_values_stand_before_sections():
    assert to_toml({"s": {"k": 1}, "seed": 0}) == "seed = 0\n\n[s]\nk = 1\n"
