"""The page of oracles and the docstrings of the tests say the same: each name, and in which test it is checked."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "oracles.md").read_text(encoding="utf8")
NAME = r"O-[A-Z]+\d+"
COUNTS = {"BP": 5, "LD": 4, "G": 5, "S": 9, "F": 7, "L": 10, "R": 6, "T": 4, "E": 2, "N": 6, "A": 10, "PC": 5, "Q": 8}
"""How many each family has."""


def on_the_page():
    """(name, path::function) of every row of a name."""
    rows = re.findall(rf"^\| ({NAME}) \| .+ \| (.+) \|$", PAGE, re.M)
    return [(name, test) for name, tests in rows for test in re.findall(r"\[([^]]+)\]\(", tests)]


@cache
def docstrings():
    """The docstring of every test function, by path::function."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path.relative_to(ROOT).as_posix()}::{node.name}"] = ast.get_docstring(node) or ""
    return found


def heads(docstring):
    """The names at the head of a docstring."""
    found = re.match(rf"({NAME}(?:, {NAME})*): \S", docstring)
    return re.findall(NAME, found[1]) if found else []


def test_every_family_has_its_names():
    names = re.findall(rf"^\| ({NAME}) \|", PAGE, re.M)
    assert names == [name for family in dict.fromkeys(n.rstrip("0123456789") for n in names)
                     for name in (f"{family}{k + 1}" for k in range(COUNTS[family[2:]]))]  # fmt: skip
    assert len(names) == sum(COUNTS.values())


def test_the_page_names_the_tests_whose_docstrings_begin_with_the_name():
    told = on_the_page()
    assert len(told) == len(set(told)) > len(COUNTS)
    assert set(told) == {(name, test) for test, docstring in docstrings().items() for name in heads(docstring)}


def test_links_lead_to_tests_that_are_there():
    links = re.findall(r"\[([^]]+::[^]]+)\]\(([^)]+)\)", PAGE)
    assert {test for _, test in on_the_page()} < {test for test, _ in links}
    for test, target in links:
        assert target == f"../{test.partition('::')[0]}" and test in docstrings(), test


def test_names_stand_nowhere_but_at_the_head():
    """A docstring with one elsewhere would be left out above."""
    assert [test for test, text in docstrings().items() if re.findall(NAME, text) != heads(text)] == []


@pytest.mark.parametrize("test", [test for test in docstrings() if re.search(r"::test_o_[a-z]+\d", test)])
def test_a_function_that_has_a_name_in_its_own_begins_with_it(test):
    """``test_o_bp1_o_bp2_...`` with both."""
    named = re.findall(r"(?:^|_)o_([a-z]+\d+)(?=_)", test.partition("::test")[2])
    assert heads(docstrings()[test]) == [f"O-{name.upper()}" for name in named]
