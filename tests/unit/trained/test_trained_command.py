"""``--evaluate`` and ``--predict`` as they are typed: lines on standard output, or one message and exit status 2."""

import numpy as np
import pytest
from tests.support import resumes, runs
from tests.support.command import call, refused

from pipeline.trained.sources import Run


def test_an_evaluation_is_one_line(trained_run):
    code, out, err = call("--evaluate", trained_run)
    test = Run(trained_run)["test"]
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert out.startswith(f"test accuracy {100 * test['accuracy']:.2f} %, loss {test['loss']:#.4g}, blocks 0-3: ")
    assert out.endswith(" 30 samples of noise\n")
    code, other, _ = call("--evaluate", trained_run, "dataset.num_test=20", "--device", "cpu", "--quiet")
    assert code == 0 and other.endswith(" 20 samples of noise\n")


def test_blocks_that_the_run_has_not_trained_are_marked(trained_run, tmp_path):
    """Their decoders guess, and a figure at chance is no finding about a block."""
    frozen = {"train": {"epochs": 1, "freeze": "0-1"}, "rule": {"name": "pred"}}
    result = runs.run(tmp_path / "drawn", frozen, base=resumes.TINY)
    own = [f"{100 * row['test_accuracy']:.2f}" for row in result["blocks"]]
    code, out, _ = call("--evaluate", tmp_path / "drawn")
    assert code == 0 and f", blocks 0-3: ({own[0]}) ({own[1]}) {own[2]} {own[3]} % (in brackets: drawn and " in out
    assert "drawn and never trained, so the block's decoder guesses), 30 samples of noise" in out
    frozen["train"] |= {"init_from": str(trained_run), "init_blocks": "1"}
    runs.run(tmp_path / "started", frozen, base=resumes.TINY)
    out = call("--evaluate", tmp_path / "started")[1]
    assert f"; block 1: not trained here, from {trained_run}, its decoder too where that run's is of the sa" in out


def test_answers_are_a_line_each(trained_run, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 6, 6)))
    code, out, err = call("--device", "cpu", "--predict", trained_run, tmp_path / "x.npz")
    assert (code, err) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] for line in lines] == [f"{tmp_path}/x.npz[0]", f"{tmp_path}/x.npz[1]"]
    assert lines[0][1:] == lines[1][1:] and lines[0][1].startswith("class ") and lines[0][2].endswith(" %")


WRONG = {
    "no run": (["--evaluate", "nowhere"], "there is no run (given: nowhere"),
    "no run to answer from": (["--predict", "nowhere", "x.npz"], "there is no run (given: nowhere"),
    "no files": (["--predict", "RUN"], "there is nothing to answer about"),
    "no such file": (["--predict", "RUN", "none.png"], "there is no such file (given: none.png"),
    "both": (["--evaluate", "RUN", "--predict", "RUN", "x.npz"], "--evaluate trains nothing (given: --evaluate with"),
    "a mode": (["--evaluate", "RUN", "--mode", "gpipe"], "--evaluate trains nothing (given: --evaluate with --mode)"),
    "a folder": (["--out", "x", "--predict", "RUN", "y.npz"], "--predict trains nothing (given: --predict with --out)"),
    "changes": (["--evaluate", "RUN", "--allow-changes"], "--evaluate trains nothing (given: --evaluate with --al"),
    "a comparison": (["--evaluate", "RUN", "--against", "backprop", "--repeat", "3"], "(given: --evaluate with --aga"),
    "an override": (["seed=3", "--predict", "RUN", "y.npz"], "an answer has nothing to override (given: 'seed=3'"),
    "another override": (["--evaluate", "RUN", "seed=3"], "an evaluation cannot change this (given: 'seed=3'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_message_and_exit_status_2(trained_run, name):
    arguments, text = WRONG[name]
    assert text in refused(*(trained_run if word == "RUN" else word for word in arguments))


@pytest.mark.parametrize("flag", ["--evaluate", "--predict"])
def test_under_torchrun_it_is_refused(trained_run, flag):
    code, out, err = call(flag, trained_run, *(["x.npz"] if flag == "--predict" else []), env={"RANK": "1"})
    assert (code, out) == (2, "") and "every rank would say the same (given: --evaluate or --predict under" in err


def test_flipped_weights_end_with_2(own_copy):
    path = Run(own_copy).weights / "block-000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)
    err = refused("--evaluate", own_copy)
    assert "the file is damaged" in err and "Take another snapshot" in err
