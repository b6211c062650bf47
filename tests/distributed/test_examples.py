"""The scripts in ``examples`` run, and say what they are there to say."""

import re
import runpy
import sys
from functools import partial
from pathlib import Path

import onward
import pytest

pytestmark = pytest.mark.distributed
FOLDER = Path(__file__).resolve().parents[2] / "examples"
SAID = {
    "own_net": r"(epoch \d: test accuracy [\d.]+ %, by block: [\d.]+ [\d.]+ [\d.]+\n){10}"
    r"trained in 2 processes: test accuracy 9\d\.\d %\nfiles in .*\n",
    "own_rule": r"price 0\.0: test accuracy by block ([\d.]+ ?){4} %\nprice 1\.0: test accuracy by block [^n]*%\n",
    "own_data": r"mean squared error of the hand's place: 0\.\d+, by epoch \d\n"
    r"of each block's own decoder: \[0\.\d+, 0\.\d+, 0\.\d+\]\n",
    "compare_with_backprop": r"parallel: test accuracy [\d. ]+ %, +\d+ samples/s\n"
    r"backprop: test accuracy [\d. ]+ %, +\d+ samples/s\nparallel over backprop: [\d.]+ times the samples/s\n",
    "load_evaluate_finetune": r"scored as its run did: True\ntest loss of the run (?P<before>[\d.]+)\n"
    r"and after twenty steps of backpropagation (?P<after>[\d.]+)\nwritten: .*finetuned\.safetensors\n",
}  # fmt: skip


def test_every_example_is_here():
    assert {path.stem for path in FOLDER.iterdir() if path.suffix} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_it_runs(name, tmp_path, monkeypatch, capsys):
    for call, named in (("train", {}), ("compare", {"repeat": 1})):
        monkeypatch.setattr(onward, call, partial(_quick, getattr(onward, call), named), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    sys.modules.pop(name, None)
    said = re.fullmatch(SAID[name], out := capsys.readouterr().out)
    assert said is not None, out
    if "after" in said.groupdict():
        assert float(said["after"]) < float(said["before"])


def _quick(call, changed, config, *overrides, **named):
    """Without looking at the blocks first, which changes no number."""
    return call(config, *overrides, "run.predict=false", "run.partition=parameters", **{**named, **changed})
