"""Operations of a step worked out by hand, and what is held as a run says it."""

import json
from pathlib import Path

import pytest
import torch
from tests.support.runs import run

from benchmarks import arithmetic
from benchmarks.accuracy.cell import Cell
from benchmarks.published import TABLES

WINDOW, WIDTH, BATCH, SYMBOLS = 20, 8, 3, 256
BASE = {
    "model.name": "transformer", "model.depth": 4, "model.width": WIDTH, "model.heads": 2, "model.layers_per_block": 1,
    "dataset.name": "text", "dataset.path": "not/there.txt", "dataset.window": WINDOW, "dataset.windows": 2 * BATCH,
    "train.batch_size": BATCH, "train.epochs": 1,
}  # fmt: skip
# Of one position and one pass forward: four square products and two of four times the width; every query with every
# key, and every weight with every value; a read-out.
LAYER, ATTENTION, READ_OUT = 2 * 12 * WIDTH**2, 2 * 2 * WINDOW * WIDTH, 2 * WIDTH * SYMBOLS
NETWORK = 3 * (4 * (LAYER + ATTENTION) + READ_OUT)
# A block whose input is no trained block's concern needs no product for the gradient of its first layer's input; the
# first block's layers stand behind an embedding.
SPARED = 3 * 2 * 3 * WIDTH**2
ARMS = {
    "backprop": ({"rule.name": "backprop"}, NETWORK, 0),
    "own": ({"rule.name": "aux"}, NETWORK - SPARED, 3 * 3 * READ_OUT),
    "private": ({"rule.name": "aux", "rule.depth": 1}, NETWORK - SPARED, 3 * 3 * (READ_OUT + LAYER + ATTENTION)),
    # The matrix is not trained.
    "shared": ({"rule.name": "readout"}, NETWORK - SPARED, 3 * 2 * READ_OUT),
    # Two blocks say what they want of the one below, by the derivative of their input alone: no weight's is needed.
    "overlap": ({"rule.name": "interlock"}, NETWORK, 3 * 3 * READ_OUT + 2 * (LAYER + 2 * ATTENTION)),
    # The output's error times a fixed matrix of each block.
    "dfa": ({"rule.name": "dfa"}, NETWORK - SPARED, 3 * READ_OUT),
}


@pytest.mark.parametrize("arm", ARMS)
def test_products_are_those_of_the_network_and_of_the_heads(arm):
    options, own, heads = ARMS[arm]
    found = arithmetic.counted(Cell("some", {**BASE, **options}, ()))
    assert found["flop_per_byte"] == own + heads
    assert found["heads_share"] == pytest.approx(heads / (own + heads))
    assert found["sent_bytes"] == BATCH * WINDOW * (4 * WIDTH + 1)  # activations, and labels of a byte each
    assert found["trained_bytes"][-1] == 4 * (12 * WIDTH**2 + 3 * WIDTH + WIDTH * SYMBOLS)


@pytest.mark.parametrize("arm", ["own", "overlap", "backprop"])
def test_what_a_block_holds_is_what_its_stage_says(tmp_path, arm):
    text = tmp_path / "some.txt"
    text.write_bytes(bytes(range(256)) * 4)
    cell = Cell("some", {**BASE, **ARMS[arm][0]}, ())
    base = {**cell.nested(0), "transport": {"name": "inline"}}
    base["run"]["stages"], base["dataset"]["path"] = "blocks", str(text)
    stages = run(tmp_path / "run", base=base)["stages"]
    assert arithmetic.counted(cell)["held_bytes"] == [stage["held_bytes"] for stage in stages]


def test_every_arm_is_counted_once_and_written(tmp_path, capsys):
    asked = []

    def count(cell):
        asked.append(cell.name)
        return {"flop_per_byte": 2e6, "heads_share": 0.25}

    assert arithmetic.main(["--out", str(tmp_path / "a.json")], count) == 0
    arms = json.loads((tmp_path / "a.json").read_text())["arms"]
    assert list(arms) == TABLES["lm"].rows() and len(asked) == len(set(asked)) == len(arms)
    assert "backprop: 2.00 MFLOP a byte, heads 25.0%" in capsys.readouterr().out


def test_what_is_kept_is_of_the_arms_as_they_are_now():
    """One of them is counted again; another torch may have attention by other products."""
    kept = json.loads(Path(arithmetic.__file__).with_name("results").joinpath("arithmetic-lm.json").read_text())
    arms = arithmetic.arms_of(TABLES["lm"])
    assert list(kept["arms"]) == list(arms)
    if kept["environment"]["versions"]["torch"].partition("+")[0] != torch.__version__.partition("+")[0]:
        pytest.skip("counted under another torch")
    assert arithmetic.counted(arms["2 blocks, own, normed"]) == kept["arms"]["2 blocks, own, normed"]
