"""What the page of the table of language models says of runs: gaps by seed, blocks, rates, costs, verdicts."""

import math

import pytest

from benchmarks.accuracy.cell import Cell, Found
from benchmarks.published.lm_parts import Arm, Arms, bits_of


def cells(name, budgets):
    return {steps: Cell(f"{name}-{steps}", {}, ()) for steps in budgets}


BUDGETS = (500, 1000)
FIRST = Arm("backprop", 1, False, cells("backprop", BUDGETS),
            {500: {1e-3: Cell("backprop-slow", {}, ()), 3e-3: Cell("backprop-500", {}, ())}})  # fmt: skip
OWN = Arm("2 blocks, own", 2, True, cells("own", BUDGETS),
          {500: {1e-3: Cell("own-slow", {}, ()), 3e-3: Cell("own-500", {}, ())}})  # fmt: skip
OTHER = Arm("2 blocks, shared", 2, True, cells("shared", (1000,)), {})
DFA = Arm("2 blocks, dfa", 2, False, cells("dfa", BUDGETS), {})
ARMS = Arms([FIRST, OWN, OTHER, DFA], asked=((1000, 2, 1.0), (500, 2, 0.0)), usual=["2 blocks, own"])


def run(seed, *bits):
    losses = [None if b is None else b * math.log(2) for b in bits]
    return {"seed": seed, "block_losses": losses, "train_s": 50.0, "steps": 500}


def found(runs, counted=None):
    return Found(lambda cell: runs.get(cell.name, []), counted or {})


def table(text):
    """The rows of the table in ``text`` below its head, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


RUNS = {
    "backprop-500": [run(0, 3.0)], "backprop-1000": [run(0, 2.0), run(1, 2.5)],
    "own-500": [run(0, 3.3, 3.15)], "own-1000": [run(0, 2.2, 2.02), run(1, 2.2, 2.5), run(2, 2.0, 1.0)],
    "dfa-1000": [run(1, None, 3.0)],
}  # fmt: skip


def test_bits_are_of_a_block_and_missing_where_there_are_none():
    one = run(0, None, 2.0)
    assert bits_of(one) == pytest.approx(2.0) and bits_of(one, 0) is None and bits_of(one, 5) is None
    assert bits_of({"seed": 0}) is None


def test_a_gap_is_of_each_seed_to_its_own():
    """The third seed of one arm has no other to be compared with."""
    rows = table(ARMS.gaps(found(RUNS)))
    assert rows == {"2 blocks, own": ["+5.0 %", "+0.5 % (0.0 % to +1.0 %, 2 seeds)"], "2 blocks, dfa": ["-", "+20.0 %"]}


def test_another_read_out_is_compared_with_the_usual_one_of_as_many_blocks():
    shared = {**RUNS, "shared-1000": [run(0, 2.2, 1.919), run(1, 2.2, 2.525)]}
    assert table(ARMS.read_outs(found(shared))) == {
        "2 blocks, shared": ["-", "-2.0 % (-5.0 % to +1.0 %, 2 seeds)"], "2 blocks, dfa": ["-", "+20.0 %"],
    }  # fmt: skip
    assert Arms([FIRST, OWN, OTHER, DFA], asked=()).read_outs(found(shared)) == ""


def test_every_block_has_its_figure_and_depth_its_gain():
    rows = table(ARMS.blocks(found(RUNS)))
    assert rows == {"2 blocks, own": ["3.300 3.150", "2.200 2.020"], "2 blocks, dfa": ["-", "- 3.000"]}
    assert table(ARMS.depth(found(RUNS))) == {"2 blocks, own": ["+4.5 %", "+8.2 %"]}


def test_the_best_rate_is_named_once_all_have_run():
    assert ARMS.rates(found({"backprop-1000": [run(0, 2.0)]})) == ""
    text = ARMS.rates(found({"backprop-slow": [run(0, 3.2)], "backprop-500": [run(0, 3.0)],
                             "own-slow": [run(0, 3.9, 3.5)]}))  # fmt: skip
    assert text.startswith("Bits per byte after 500 steps by learning rate")
    assert table(text) == {"0.001": ["3.2", "3.5"], "0.003": ["3", "-"]}
    assert text.splitlines()[-2:] == [
        "- Best rate of backprop: 0.003 (3)",
        "- Best rate of 2 blocks, own: open, 0.001 (3.5) so far, 1 of 2 rates run",
    ]  # fmt: skip
    only = ARMS.rates(found({"backprop-slow": [run(0, 3.2)]}))
    assert only.endswith("- Best rate of 2 blocks, own: open, none of them has been run")


def test_costs_are_those_that_were_counted_and_times_those_of_the_runs():
    counted = {"2 blocks, own": {"flop_per_byte": 12.5e6, "heads_share": 0.017, "held_bytes": [2**20, 2**21],
                                 "trained_bytes": [2**10, 2**10], "sent_bytes": 2**19},
               "2 blocks, shared": {"flop_per_byte": 11e6, "heads_share": 0.0, "held_bytes": [2**20],
                                    "trained_bytes": [2**10], "sent_bytes": 0}}  # fmt: skip
    assert ARMS.costs(found(RUNS)) == ""
    assert table(ARMS.costs(found(RUNS, counted))) == {
        "2 blocks, own": ["12.5", "1.7 %", "2.0 MiB", "2.0 KiB", "512.0 KiB", "100 ms"],
        "2 blocks, shared": ["11.0", "0.0 %", "1.0 MiB", "1.0 KiB", "-", "-"],
    }


def test_what_was_asked_is_judged_by_the_best_local_arm():
    assert ARMS.verdicts(found({})) == ""
    assert ARMS.verdicts(found(RUNS)).splitlines() == [
        "- The best local arm of 2 blocks after 1000 steps is at most 1 % above backprop: holds "
        "(2 blocks, own: +0.5 %; 1 of 2 arms not run)",
        "- The best local arm of 2 blocks after 500 steps is at most 0 % above backprop at 0.003: **does not hold** "
        "(2 blocks, own at 0.003: +5.0 %)",
    ]
    better = {**RUNS, "shared-1000": [run(0, 2.2, 1.9)]}
    assert "after 1000 steps is at most 1 % above backprop: holds (2 blocks, shared: -5.0 %)" in ARMS.verdicts(
        found(better)
    )


def test_each_arm_is_judged_at_the_best_rate_that_was_tried_of_it():
    tried = {**RUNS, "backprop-slow": [run(0, 3.1)], "own-slow": [run(0, 3.1, 2.97)]}
    assert "after 500 steps is at most 0 % above backprop at 0.003: holds (2 blocks, own at 0.001: -1.0 %)" in (
        ARMS.verdicts(found(tried))
    )
    tried["backprop-slow"] = [run(0, 2.9)]
    assert "at most 0 % above backprop at 0.001: **does not hold** (2 blocks, own at 0.001: +2.4 %)" in (
        ARMS.verdicts(found(tried))
    )


def test_what_the_arms_so_far_miss_is_open_while_another_has_not_run():
    """An arm that has not run may be the best one."""
    worse = {**RUNS, "own-1000": [run(seed, 2.4, 2.3) for seed in range(3)]}
    assert "after 1000 steps is at most 1 % above backprop: open (2 blocks, own: +" in ARMS.verdicts(found(worse))
    both = {**worse, "shared-1000": [run(0, 2.5, 2.4)]}
    assert "is at most 1 % above backprop: **does not hold** (2 blocks, own: +" in ARMS.verdicts(found(both))
