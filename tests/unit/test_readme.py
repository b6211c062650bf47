"""What the README says can be done can be done."""

import importlib
import json
import re
import shlex
import statistics
import textwrap
from pathlib import Path

import launch
import pytest

from benchmarks import report
from benchmarks.accuracy.metrics import best
from pipeline.config import load_config
from pipeline.resolve import resolve
from workers.planner.question import question_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("**/*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf8")


def commands():
    """Every line of a code block that starts launch.py or a benchmark."""
    pages = "\n".join(p.read_text(encoding="utf8") for p in PAGES)
    blocks = [text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", pages, re.S | re.M) if kind in ("", "bash")]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return sorted({line for line in lines if "launch.py" in line.split("#")[0]
                   and line.startswith(("python", "torchrun"))})  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_design_page_is_linked():
    assert "](docs/design.md)" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_that_are_named_exist(page):
    """Files and folders of the repository; words in capitals stand for something else."""
    folders = "pipeline|workers|benchmarks|tests|docs|configs|examples"
    named = set(re.findall(rf"(?<![\w/.-])(?:{folders})(?:/[\w-]+(?:\.\w+)*)+", page.read_text(encoding="utf8")))
    named = {path for path in named if not re.search(r"/[A-Z]+\b", path)}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_dotted_names_exist(page):
    text = page.read_text(encoding="utf8")
    named = set(re.findall(r"(?<![\w/.-])(?:pipeline|workers|benchmarks)(?:\.[A-Za-z_]\w*)+", text))
    assert sorted(name for name in named if not is_importable(name)) == []


def is_importable(name):
    """Whether ``name`` is a module, or an attribute of one."""
    parent, _, last = name.rpartition(".")
    if (ROOT / name.replace(".", "/")).with_suffix(".py").exists() or (ROOT / name.replace(".", "/")).is_dir():
        return True
    return bool(parent) and is_importable(parent) and hasattr(importlib.import_module(parent), last)


def test_members_that_the_design_page_names_exist():
    """``Program._take``: some file defines the class and has the member."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf8")
    files = [path for folder in ("pipeline", "workers") for path in (ROOT / folder).rglob("*.py")]
    sources = [path.read_text(encoding="utf8") for path in files]
    named = set(re.findall(r"\b([A-Z]\w*[a-z]\w*)\.(\w+)\b", page))
    assert len(named) > 20
    missing = {
        (owner, member) for owner, member in named
        if not any(re.search(rf"^class {owner}\b", x, re.M) and re.search(rf"\b{member}\b", x) for x in sources)
    }  # fmt: skip
    assert missing == set()


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command):
    words = shlex.split(command, comments=True)
    options = launch.parse(words[words.index("launch.py") + 1 :])
    options.resume = None  # the run is the reader's
    assert load_config(launch.config_of(options), launch.overrides_of(options)).config.train.epochs > 0


BUILT_IN = ("digits", "noise", "delayed_copy", "sine", "signed_xor")
"""Data sets that every machine has."""


def read(command):
    """The flags and the config of a command."""
    words = shlex.split(command, comments=True)
    options = launch.parse(words[words.index("launch.py") + 1 :])
    return options, load_config(launch.config_of(options), launch.overrides_of(options)).config


def runnable():
    """Commands that need no run and no module of the reader's, and no data that have to be fetched."""
    own = ("--resume", "--init-from", "my_")
    found = [command for command in commands() if not any(word in command for word in own)]
    return [command for command in found if read(command)[1].dataset.name in BUILT_IN]


@pytest.mark.parametrize("command", runnable())
def test_commands_fit_their_network(command, tmp_path):
    """As many stages as there are blocks at most, and replicas of rules that allow them."""
    options, config = read(command)
    num_blocks, stages = resolve(config, tmp_path).num_blocks, config.run.stages
    if options.plan:
        assert max(question_of(options, config, tmp_path).stages) <= num_blocks
    elif isinstance(stages, int):
        assert stages <= num_blocks


def test_there_are_commands_to_test():
    assert len(commands()) >= 3 and len(runnable()) >= 10


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    named = set(re.findall(r"\bmake (train|test|[a-z]+)\b", README))
    assert {"train", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in named & {"train", "test"})


def test_the_first_table_has_backprop_first_and_the_first_command_stands_early():
    lines = README.splitlines()
    first_row = next(i for i, line in enumerate(lines) if line.startswith("| ---")) + 1
    assert "backprop" in lines[first_row] and first_row < 10
    assert next(i for i, line in enumerate(lines) if line.startswith("make train")) < 25
    assert len(lines) <= 150


def test_nothing_was_left_to_fill_in():
    assert re.findall(r"^[A-Z]+_[A-Z]+$", README, re.M) == []


@pytest.mark.parametrize("path", sorted(report.RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_every_file_of_results_says_what_it_was_measured_on(path):
    environment = json.loads(path.read_text(encoding="utf8"))["environment"]
    assert environment["commit"] and environment["versions"]["torch"] and environment["cpu"] and environment["command"]


def test_the_first_table_is_that_of_the_results():
    found = json.loads((report.RESULTS / "mnist.json").read_text(encoding="utf8"))
    rows = README.split("| --- | ---: | ---: |\n")[1].split("\n\n")[0].splitlines()
    assert [row.split(",")[0].strip("| ") for row in rows] == ["backprop", "pred", "sim", "predsim"]
    for row in rows:
        arm, error, seconds = (cell.strip() for cell in row.strip("|").split("|"))
        cell_name = arm.split(",")[0].replace("backprop", "glob")
        cell = json.loads((report.RESULTS / "accuracy/nokland-eidnes-mnist" / f"{cell_name}.json").read_text("utf8"))
        least = [best(run) for run in cell["runs"]]
        assert len(least) == 3
        assert error == f"{statistics.median(least):.2f} % ({min(least):.2f} to {max(least):.2f})"
        assert seconds == f"{next(s for s in found['summary'] if s['arm'] == arm)['median_epoch_s']:.2f}"


@pytest.mark.parametrize("page", report.PAGES, ids=lambda p: p.parent.name)
def test_tables_between_markers_are_what_their_files_say(page):
    assert page.read_text(encoding="utf8") == report.remade(page, report.RESULTS), "run python -m benchmarks.report"


def test_every_benchmark_has_its_three_headings():
    sections = re.split(r"^## ", (ROOT / "benchmarks" / "README.md").read_text(encoding="utf8"), flags=re.M)[1:]
    assert len(sections) >= 5
    for section in sections:
        assert re.findall(r"^### (.+)", section, re.M) == ["Result", "Environment", "To reproduce"], section[:20]


def test_the_loop_is_the_real_one():
    loop = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "yield" in block)
    source = (ROOT / "pipeline" / "engine" / "program.py").read_text(encoding="utf8")
    assert textwrap.indent(loop, " " * 8) in source


def test_python_blocks_compile():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks != []
    for block in blocks:
        # The loop of a stage is the inside of a generator.
        body = block if "yield" not in block else "def loop():\n" + "".join(f"    {x}\n" for x in block.splitlines())
        compile(body, "README.md", "exec")
