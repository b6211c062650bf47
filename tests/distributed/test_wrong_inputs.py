"""Everything a user can get wrong ends in one clear message and the right exit code, with nothing left running.

Most of it in this process, whose ``launch.main`` is what an interpreter of its own would run; some of it in that.
"""

import pytest
import torch
from tests.support.command import call, call_ranks, launch

pytestmark = pytest.mark.distributed

WRONG = {
    "unknown rule": (["rule.name=predsin"], "unknown rule", "Did you mean 'predsim'?"),
    "misspelt key": (["train.epoch=3"], "unknown key (given: train.epoch", "Did you mean 'epochs'?"),
    "misspelt option": (["rule.betta=0.5"], "unknown key (given: rule.betta", "Did you mean 'beta'?"),
    "wrong type": (["train.epochs=many"], "wrong value for train.epochs", "expected: a whole number"),
    "negative epochs": (["train.epochs=-1"], "wrong value for train.epochs", "expected: at least 1"),
    "more stages than blocks": (["--stages", "9"], "cannot split 4 blocks into 9 stages", "at most 4"),
    "missing data set": (["dataset.name=mnist", "dataset.download=false"], "MNIST", "--data-root"),
    "unreadable file": (["--config", "configs"], "cannot read the config", "Name a TOML file"),
    "no TOML": (["--config", "launch.py"], "the config is not TOML", "Correct that line"),
    "unfit transport": (["--transport", "carrier_pigeon"], "unknown transport", "shared_memory"),
    "no such device": (["--device", "cuda"], "there is no CUDA device", "--device cpu"),
    "bad override": (["train.epochs"], "cannot read the override", "section.key=value"),
    "a local mode for a rule with feedback": (
        ["--mode", "sequential", "rule.name=dfa"], "sequential mode trains blocks before", "Change the rule"),
    "replicas that do not divide": (
        ["rule.name=pred", "run.replicas=3", "train.microbatches=4"], "cannot be dealt to the replicas evenly",
        "expected: a multiple of 3"),
    "replicas for a rule without micro-batches": (
        ["rule.name=predsim", "run.replicas=2"],
        "the rule predsim learns from a batch as a whole", "another rule, e.g. pred"),
    "unknown wire": (["transport.wire=int4"], "wrong value for transport.wire", "int8"),
    "a wire to nowhere": (
        ["transport.wire=int8", "transport.wire_at=[4]"], "no such boundary", "1 to 3"),
    "a wire at the data": (
        ["transport.wire=int8", "transport.wire_at=[0]"], "wrong value for transport.wire_at", "at least 1"),
    "a place without a wire": (["transport.wire_at=[1]"], "nothing is rounded", "Set transport.wire"),
    "no such block": (["rule.blocks.0-9.name=pred"], "there are no such blocks", "within 0 to 3"),
    "two sections for a block": (
        ["optimizer.blocks.0-1.lr=1", "optimizer.blocks.1.lr=2"], "two sections are for one block", "Correct one"),
    "rules that do not go together": (["rule.blocks.0.name=dni"], "feedback of a kind of its own", "or change it"),
    "a frozen block in the way": (
        ["rule.blocks.0.name=backprop", "train.freeze=1"], "frozen under predsim it returns nothing", "a local rule"),
    "a run that is not there": (
        ["--init-from", "no-such-run"], "--init-from: there is no run (given: ", "Name another one"),
    "a block that raises": (
        ["model.name=tests.support.bad_blocks.always"], "this block is broken", "block 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_message_and_exit_code_2(tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_message(call, tmp_path, name)


@pytest.mark.parametrize("name", ["misspelt key", "a block that raises"])
def test_a_command_of_its_own_says_the_same(tmp_path, name):
    """Before torch is imported, and while the fork server imports it."""
    check_message(launch, tmp_path, name)


def check_message(command, tmp_path, name):
    arguments, *texts = WRONG[name]
    empty = tmp_path / "data"
    empty.mkdir()
    code, out, err = command("--out", tmp_path / "run", "--data-root", empty, *arguments)
    assert code == 2, err
    for text in texts:
        assert text in err
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err and out == ""
    assert not (tmp_path / "run").exists()


def test_an_existing_output_folder_is_left_alone(tmp_path):
    (tmp_path / "result.json").write_text("mine")
    code, _, err = call("--out", tmp_path)
    assert code == 2 and "the output folder is taken" in err and "Choose another --out" in err
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_an_unknown_flag_is_told_what_it_would_be_right_as():
    code, out, err = call("--epochs", "3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("launch.py: unknown flag (given: --epochs") and "write train.epochs=..." in err


@pytest.mark.parametrize(
    ("ranks", "arguments", "text"),
    [
        (5, [], "Lower --nproc-per-node to at most 4"),
        (2, ["--transport", "inline"], "the inline transport runs all stages in one process"),
        (2, ["--mode", "backprop"], "the mode backprop is one process"),
        (2, ["--stages", "3"], "torchrun gives one stage to each rank"),
    ],
)
def test_ranks_that_do_not_fit(tmp_path, ranks, arguments, text):
    """Each ends with 2, and the first alone says why."""
    (code, out, err), *others = call_ranks(ranks, tmp_path, "--out", tmp_path / "run", *arguments)
    assert code == 2 and out == "" and text in err and err.startswith("launch.py: ") and err.count("\n") == 1
    assert others == [(2, "", "")] * (ranks - 1) and not (tmp_path / "run").exists()


def test_torchrun_reports_ranks_that_do_not_fit(tmp_path):
    code, _, err = launch("--out", tmp_path / "run", "--mode", "backprop", ranks=2)
    assert code == 1 and "exitcode  : 2" in err  # torchrun's own code is 1, its ranks' is 2
    assert [line for line in err.splitlines() if "the mode backprop is one process" in line] != []
    assert "launch.py:" in err and not (tmp_path / "run").exists()
