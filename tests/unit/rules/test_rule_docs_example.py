"""The worked example of docs/rules.md, run as the user would have it; and that the page names every rule."""

import re
from pathlib import Path

import torch
from rule_builders import assert_same, batch, dense, gradients, make_rules, read_out

from pipeline import registry
from pipeline.learning.local_rule import Output

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf8")


def load_example(tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-1]
    folder = tmp_path / "my_rules"
    folder.mkdir()
    (folder / "drtp.py").write_text(code, encoding="utf8")
    monkeypatch.syspath_prepend(tmp_path)
    return registry.load("pipeline.rules", "my_rules.drtp", "rule")


def test_the_example_loads_by_its_dotted_name_and_learns(tmp_path, monkeypatch):
    build = load_example(tmp_path, monkeypatch)
    options = registry.check_options(build, {"scale": 1}, "rule")
    hidden, top = make_rules(build, [dense(6, 8), read_out((8,))], (6,), **options)
    assert isinstance(top, Output) and hidden.decode(None) is None
    x, y = batch((6,))
    gamma = hidden.matrix[y] / 16
    expected = torch.autograd.grad(hidden.block.body(x), list(hidden.block.parameters()), gamma)
    hidden.learn(hidden(x, y)[1], ())
    assert_same(gradients(hidden), expected)


def test_the_page_has_a_section_and_a_table_row_for_every_rule():
    for name in registry.known("pipeline.rules"):
        assert f"\n### {name}\n" in PAGE and f"\n| `{name}` |" in PAGE


def test_the_options_in_the_table_are_those_of_the_rules():
    for name in registry.known("pipeline.rules"):
        row = re.search(rf"\n\| `{name}` \|[^|]*\|([^|]*)\|", PAGE).group(1)
        options = registry.defaults(registry.load("pipeline.rules", name, "rule"))
        assert set(re.findall(r"`(\w+)`", row)) == set(options)
