"""The tutorial, step by step, in an empty folder: what it says is printed is printed, figures aside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LOOSE = re.compile(r"(?<=\bclass )\d+|\d+\.\d+")
"""Figures that another processor may give otherwise: decimals, and the class of an answer."""
COMMANDS = {
    "python": '#!/bin/sh\nexec {python} "$@"\n',
    "onward": "#!{python}\nfrom launch import command\ncommand()\n",
}


def run(line, folder):
    """A line as a shell runs it, with ``onward`` and ``python`` being those of this checkout."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # Threads that wait by spinning take minutes on cores that others use as well.
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def like(printed, shown):
    """The same text, whole numbers included, with figures for figures."""
    return LOOSE.sub("#", printed) == LOOSE.sub("#", shown)


def test_every_step(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(text.format(python=sys.executable))
        (tmp_path / "bin" / name).chmod(0o755)
    printed, steps = [], 0
    for kind, body in BLOCK.findall(PAGE):
        if kind == "python":
            name, _, code = body.partition("\n")
            (tmp_path / name.removeprefix("# ")).write_text(code)
        elif kind == "":
            printed = [text for line in body.splitlines() for text in run(line, tmp_path).splitlines()]
            steps += len(body.splitlines())
        else:
            shown = body.splitlines()
            differing = [(p, s) for p, s in zip(printed, shown, strict=True) if not like(p, s)]
            assert differing == [], printed
    assert steps == 6


def test_numbers_may_differ_and_words_may_not():
    assert like("loss 0.25 of 3", "loss 0.031 of 3") and not like("loss nan of 3", "loss 0.031 of 3")
    assert not like("processes: 1 1", "processes: 1 4") and not like("processes: 1 14", "processes: 1 4")
    assert like("x.npz[0] class 2 97.5 %", "x.npz[0] class 1 8.25 %")
    assert not like("x.npz[1] class 2 97.5 %", "x.npz[0] class 2 97.5 %")
    assert not like("the same weights: False", "the same weights: True")
