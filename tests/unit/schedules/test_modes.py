"""The table of modes, and that nothing else knows them by name."""

import ast
import pickle
import re
import subprocess
import sys
from pathlib import Path

import launch
import pytest

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import resolve
from pipeline.schedules.modes import MODES, find_mode
from pipeline.schedules.schedule import Parallel, Sequential
from pipeline.schedules.wave import Staged

ROOT = Path(__file__).resolve().parents[3]
NAMES = [mode.name for mode in MODES]
BUILT_IN = ["parallel", "sequential", "gated", "backprop", "gpipe", "1f1b", "pipedream"]


def test_every_mode_has_a_name_and_a_line_of_its_own():
    assert len(set(NAMES)) == len(MODES) and Config().schedule.mode == NAMES[0]
    assert all(20 < len(mode.summary) < 90 and find_mode(mode.name) is mode for mode in MODES)


def test_an_unknown_mode_is_told_with_the_nearest():
    text = (
        r"unknown mode \(given: schedule.mode 'sequentail', expected: parallel, sequential, .*pipedream\)\. "
        r"Did you mean 'sequential'\? See launch.py --list"
    )
    with pytest.raises(ConfigError, match=text):
        find_mode("sequentail")
    with pytest.raises(ConfigError, match="unknown mode .*'paralel', .* Did you mean 'parallel'"):
        resolve(Config.from_dict({"schedule": {"mode": "paralel"}}), ROOT)


@pytest.mark.parametrize("mode", MODES, ids=NAMES)
def test_a_row_travels_to_a_stage_and_makes_its_schedule(mode):
    assert pickle.loads(pickle.dumps(mode)) == mode
    first = mode.schedule(Config(), 3, True).plan(0, ())
    assert first is not None and first.epoch == 0 and len(first.modes) == 3


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_schedules_of_the_rows(name):
    expected = {"sequential": Sequential(3, 20), "gated": Staged(3, 20)}.get(name, Parallel(3, 20))
    assert find_mode(name).schedule(Config(), 3, True) == expected


def test_the_command_line_knows_them_without_torch(capsys):
    code = "import sys, pipeline.schedules.modes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
    assert [launch.parse(["--mode", name]).mode for name in NAMES] == NAMES
    assert launch.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert all(f"  {mode.name:<16} {mode.summary}" in listed for mode in MODES)


def comparisons(path):
    """Comparisons with the name of a mode, as text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Compare | ast.match_case):
            names = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
            if names & set(NAMES) or re.search(r"schedule\.mode\b", ast.unparse(node)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_mode_is_compared_by_name():
    files = [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("workers/**/*.py"), ROOT / "launch.py"]
    assert [where for path in files for where in comparisons(path)] == []
