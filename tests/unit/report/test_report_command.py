"""--report: where the page goes, and what is said instead of one."""

import sys
from types import ModuleType

import pytest
from tests.support import report_runs
from tests.support.command import call, refused

HERE = {name: pytest.param(name) for name in ("matplotlib", "jinja2")}


@pytest.fixture
def run(tmp_path):
    return report_runs.a_run(tmp_path / "mine", epochs=0)


WRONG = {
    "a plan": (["--report", "RUN", "--plan"], "a report changes no run (given: --report with --plan)"),
    "a config": (["--report", "RUN", "--config", "x.toml"], "(given: --report with --config)"),
    "a device": (["--report", "RUN", "--device", "cpu"], "(given: --report with --device)"),
    "an override": (["seed=1", "--report", "RUN"], "(given: --report with seed=1)"),
    "another look": (["--report", "RUN", "--evaluate", "RUN"], "(given: --report with --evaluate)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_flags_that_mean_nothing_beside_it(run, name):
    arguments, text = WRONG[name]
    assert text in refused(*[run if word == "RUN" else word for word in arguments])
    assert not (run / "report.html").exists()


def test_under_torchrun_it_is_refused(run):
    code, _, err = call("--report", run, env={"RANK": "0"})
    assert code == 2 and "every rank would write the same" in err


@pytest.mark.parametrize("name", HERE)
def test_a_library_that_is_missing_is_named_with_what_installs_it(run, monkeypatch, name):
    for other in HERE:
        monkeypatch.setitem(sys.modules, other, ModuleType(other))
    monkeypatch.setitem(sys.modules, name, None)
    err = refused("--report", run)
    assert f"a report needs {name}" in err and "pip install 'onward-pipeline[report]'" in err


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra report)")


@pytest.mark.usefixtures("drawn")
def test_one_run_has_its_page_in_its_folder_and_a_newer_one_replaces_it(run):
    assert call("--report", run) == (0, f"written: {run}/report.html\n", "")
    (run / "report.html").write_text((run / "report.html").read_text().replace("Run mine", "Run of old"))
    assert call("--report", run, "--quiet") == (0, "", "")
    assert "<h1>Run mine</h1>" in (run / "report.html").read_text()


@pytest.mark.usefixtures("drawn")
def test_several_have_a_folder_of_their_own(run, tmp_path, monkeypatch):
    other = report_runs.a_run(tmp_path / "other", epochs=0)
    monkeypatch.setattr("launch.runs_folder", lambda: tmp_path / "runs")
    code, out, _ = call("--report", run, other)
    (page,) = (tmp_path / "runs").glob("report-*/report.html")
    assert code == 0 and out == f"written: {page}\n" and "<h1>2 runs</h1>" in page.read_text()
    assert call("--report", run, other, "--out", tmp_path / "here")[0] == 0
    assert (tmp_path / "here" / "report.html").exists()


@pytest.mark.usefixtures("drawn")
def test_what_is_no_run_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.runs_folder", lambda: tmp_path / "runs")
    assert "this is not the folder of a run" in refused("--report", tmp_path / "a", tmp_path / "b")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.usefixtures("drawn")
def test_a_file_of_the_users_is_not_replaced(run):
    (run / "report.html").write_text("<p>mine</p>")
    code, _, err = call("--report", run)
    assert code == 2 and "another file is in the way" in err and (run / "report.html").read_text() == "<p>mine</p>"


@pytest.mark.usefixtures("drawn")
def test_a_folder_that_cannot_be_written_is_one_message(run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = call("--report", run, "--out", tmp_path / "file" / "folder")
    assert (code, err.count("\n")) == (2, 1) and "cannot write to the output folder" in err


NO_TABLES = {"compare.json": ("--against", '{"arms": {"parallel": 3}}'), "sweep.json": ("--sweep", '{"keys": 3}')}


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", NO_TABLES)
def test_a_table_that_is_none_of_ours_is_one_message(tmp_path, name):
    flag, text = NO_TABLES[name]
    folder = report_runs.a_comparison(tmp_path / "cmp")
    (folder / "compare.json").unlink()
    (folder / name).write_text(text)
    code, _, err = call("--report", folder, "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"this is not what {flag} writes (given: {name} of cmp" in err
