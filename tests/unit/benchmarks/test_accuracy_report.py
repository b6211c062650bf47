"""The page of results: every published table stands on it, as its files have it."""

import json

import pytest

from benchmarks import report, tables
from benchmarks.accuracy.store import digest
from benchmarks.published import TABLES

PAGE = report.ROOT / "docs" / "results.md"
GATED = report.ROOT / "docs" / "gated.md"


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_the_page_is_what_the_files_say(page):
    assert report.stale([page], report.RESULTS) == []


@pytest.mark.parametrize("name", TABLES)
def test_every_table_stands_on_the_page(name):
    page = GATED if name.startswith("gated-") else PAGE
    assert f"<!-- table: accuracy-{name} -->\n" in page.read_text(encoding="utf8")


def test_every_file_of_results_belongs_to_a_cell():
    known = {f"{table.name}/{cell.name}.json" for table in TABLES.values() for cell in table.cells}
    folder = report.RESULTS / "accuracy"
    assert {path.relative_to(folder).as_posix() for path in folder.glob("*/*.json")} <= known


def test_a_new_figure_makes_the_page_stale(tmp_path):
    table = TABLES["drtp"]
    (cell,) = table.cells
    page = tmp_path / "page.md"
    page.write_text("<!-- table: accuracy-drtp -->\n<!-- end -->\n")
    arguments = ["--page", str(page), "--results", str(tmp_path)]
    page.write_text(report.remade(page, tmp_path))
    assert report.main([*arguments, "--check"]) == 0 and "| FC1-500 | not run (3.5 to 6) |" in page.read_text()
    run = {"seed": 0, "status": "completed", "errors": [4.5, 4.75], "wall_s": 9.0, "epochs": 2, "commit": "abc",
           "device": "cpu", "threads": 1, "cpu": "Some CPU", "devices": []}  # fmt: skip
    folder = tmp_path / "accuracy" / "drtp"
    folder.mkdir(parents=True)
    found = {"digest": digest(cell), "quick": False, "runs": [run]}
    (folder / f"{cell.name}.json").write_text(json.dumps(found))
    assert report.main([*arguments, "--check"]) == 1
    assert "| FC1-500 | 4.5 (3.5 to 6) | 4.75 |" in report.remade(page, tmp_path)


def test_a_table_that_nobody_published_is_an_error(tmp_path):
    expected = r"no table of that name \(given: accuracy-nothing, expected: .*accuracy-PUBLISHED"
    with pytest.raises(ValueError, match=expected):
        tables.render("accuracy-nothing", tmp_path)
