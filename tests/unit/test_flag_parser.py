"""A mistake on the command line is one line, with what was probably meant."""

import launch
import pytest

WRONG = {
    "--stage 2": "(given: --stage, expected: one that --help lists). Did you mean '--stages'? Correct or remove it.",
    "--epochs=3": "train.epochs is a key of the config: write train.epochs=..., without dashes.",
    "--batch-size 3": "(given: --batch-size, expected: one that --help lists). train.batch_size is a key of the "
    "config: write",
    "--rule.name pred": "(given: --rule.name, expected: one that --help lists). rule.name is a key of the config: "
    "write",
    "--lr 3": "optimizer.lr is a key of the config: write optimizer.lr=..., without dashes.",
    "--zzz": "unknown flag (given: --zzz, expected: one that --help lists). Correct or remove it.",
    "-x": "unknown flag (given: -x, expected: one that --help lists). Correct or remove it.",
    "--mode parralel": "wrong value for --mode (given: 'parralel', expected: parallel, sequential, gated, backprop, "
    "gpipe, 1f1b, pipedream). Did you mean 'parallel'? Change it.",
    "--out": "argument --out: expected one argument. See --help.",
    "--generate many": "argument --generate: invalid int value: 'many'. See --help.",
}


@pytest.mark.parametrize("given", WRONG)
def test_one_line_and_exit_status_2(capsys, given):
    with pytest.raises(SystemExit) as end:
        launch.parse(given.split())
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("launch.py: ") and WRONG[given] in err
