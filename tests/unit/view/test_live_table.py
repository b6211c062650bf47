from dataclasses import replace

import pytest
from tests.support.shown import show, stripped  # noqa: F401
from tests.support.views import blocks, parallel, report, sequential

from pipeline.schedules.plan import Choice


def test_before_the_start(show):
    shown = show()
    bar, header, *stages = shown.lines()
    assert bar.startswith("starting 2 stages  ") and bar.endswith("0 s")
    assert stripped(header) == ["stage", "blocks", "epoch", "step", "samples/s", "loss", "queue", "test %"]
    assert [stripped(s) for s in stages] == [
        ["0", "0-1", "-", "-", "-", "-", "-", "- -"], ["1", "2-3", "-", "-", "-", "-", "-", "- -"],
    ]  # fmt: skip


def test_headline_is_on_the_terminal_at_once(show):
    assert "predsim on digits, mlp of 4 blocks, parallel mode, 2 stages (blocks 0-1 | 2-3)" in show().text()


def test_inside_an_epoch(show):
    shown = show()
    shown.begin(*(parallel(e) for e in range(20)))
    shown.report(2.0, 0, 0, 11, 768, loss=0.25)
    shown.report(0.0, 1, 0, 10, 704, loss=1.5, fill=1)
    bar, _, *stages = shown.lines()
    assert bar.startswith("epoch  1/20  ") and bar.endswith("  2 %  2 s, 1 min 22 s left")
    assert [stripped(s) for s in stages] == [
        ["0", "0-1", "1", "12/23", "384", "0.2500", "-", "- -"],
        ["1", "2-3", "1", "11/23", "352", "1.500", "1/4", "- -"],
    ]


def test_after_an_epoch(show):
    shown = show()
    shown.begin(*(parallel(e) for e in range(20)))
    shown.report(0.5, 0, 0, 11, 768)
    shown.end(0.5, parallel(0), blocks(0, [0.1, 0.2, 0.3, 0.4], [0.95, 0.96, 0.97, 0.98]))
    bar, last, _, *stages = shown.lines()
    assert bar.startswith("epoch  2/20  ") and bar.endswith("  5 %  1 s, 19 s left")
    assert last == "epoch 1/20, loss 0.4000, test accuracy 98.00 %, 1 437 samples/s, 1.00 s"
    assert [stripped(s)[-1] for s in stages] == ["95.00 96.00", "97.00 98.00"]
    # Also of the stage that has not said so itself: reports are rarer than steps.
    assert [stripped(s)[2:4] for s in stages] == [["1", "23/23"], ["1", "23/23"]]


def test_accuracy_stays_until_the_next_evaluation(show):
    shown = show(counts=(4,))
    shown.begin(*(parallel(e) for e in range(20)))
    shown.end(1.0, parallel(0), blocks(0, [0.1] * 4, [0.95, None, 0.97, 0.98]))
    shown.end(1.0, parallel(1, evaluate=False), blocks(0, [0.1] * 4, [None] * 4))
    assert stripped(shown.lines()[-1])[-1] == "95.00 - 97.00 98.00"


def test_scoring_the_test_set_is_no_epoch(show):
    shown = show(epochs=1)
    last = replace(parallel(1), lr_epochs=(0,) * 4, choice=Choice(0, 1, scores_test=True))
    shown.begin(parallel(0), last)
    shown.end(1.0, parallel(0), blocks(0, [0.1] * 4, [None] * 4))
    assert [stripped(s)[2:4] for s in shown.lines()[-2:]] == [["1", "23/23"]] * 2
    shown.end(1.0, last, blocks(0, [...] * 4, [0.5] * 4))
    assert [stripped(s)[2:4] for s in shown.lines()[-2:]] == [["1", "23/23"]] * 2
    assert "test set, by the weights of epoch 1: test accuracy 50.00 %" in shown.lines()[1]


def test_one_stage_has_no_queue(show):
    shown = show("backprop", counts=(4,))
    shown.begin(parallel(0))
    shown.report(1.0, 0, 0, 0, 64, loss=None)
    assert stripped(shown.lines()[1]) == ["stage", "blocks", "epoch", "step", "samples/s", "loss", "test %"]
    assert stripped(shown.lines()[2]) == ["0", "0-3", "1", "1/23", "64.0", "-", "- - - -"]


def test_progress_counts_the_slowest_stage(show):
    shown = show(epochs=1)
    shown.begin(parallel(0))
    shown.report(1.0, 0, 0, 22, 1437)
    assert "  0 %  " in shown.lines()[0]
    shown.report(1.0, 1, 0, 10, 704)
    assert "  47 %  " in shown.lines()[0]


def test_stages_ahead_of_the_slowest_do_not_count_more_than_their_epoch(show):
    shown = show(epochs=2)
    shown.begin(parallel(0), parallel(1))
    shown.report(1.0, 0, 1, 40, 2600)
    shown.report(1.0, 1, 1, 30, 2000)
    assert shown.lines()[0].startswith("epoch 1/2  ") and "  50 %  " in shown.lines()[0]


def test_phases(show):
    shown = show("sequential", counts=(1, 1, 2))
    shown.begin(sequential(0, 0, 0))
    shown.report(1.0, 0, 0, 22, 1437)
    assert [stripped(s)[2] for s in shown.lines()[2:]] == ["trains 0", "waits", "waits"]
    shown.end(0.0, sequential(0, 0, 0), blocks(0, [0.1], [0.95]))
    # The next block has its inputs made by the one below, for an epoch.
    shown.view.planned(sequential(1, 1, 0, source=0))
    bar, _, _, *stages = shown.lines()
    assert bar.startswith("epoch  2  block 1 ( 1/20)  ") and bar.endswith("  0 %  1 s")
    assert [stripped(s)[2] for s in stages] == ["forward", "trains 1", "waits"]
    shown.end(1.0, sequential(1, 1, 0, source=0), blocks(0, [..., 0.2], [None, 0.96]))
    shown.view.planned(sequential(2, 1, 1))
    shown.report(1.0, 1, 2, 3 * 23 - 1, 2874, loss=0.125, fill=2)
    bar, last, _, *stages = shown.lines()
    assert bar.startswith("epoch  3  block 1 ( 2/20)  ") and bar.endswith("  10 %  3 s")
    assert last == "epoch 2, block 1 (1/20), loss 0.2000, its test accuracy 96.00 %, 1 437 samples/s, 1.00 s"
    assert [stripped(s) for s in stages] == [
        ["0", "0", "frozen", "2", "23/23", "-", "-", "-", "95.00"],
        ["1", "1", "trains 1", "3", "23/23", "1 437", "0.1250", "2/4", "96.00"],
        ["2", "2-3", "waits", "-", "-", "-", "-", "-", "- -"],
    ]


def test_a_phase_that_is_over_waits_for_the_next_plan(show):
    shown = show("sequential")
    shown.begin(sequential(0, 0, 0))
    shown.end(1.0, sequential(0, 0, 0), blocks(0, [0.1], [0.95]))
    assert shown.lines()[0].startswith("epoch  1  block 0 ( 1/20)  ") and "  5 %  " in shown.lines()[0]


def gated(gates, first=0):
    rows = blocks(first, [0.5] * len(gates), [0.75] * len(gates))
    return [{**row, **({} if g is None else {"gate": g})} for row, g in zip(rows, gates, strict=True)]


def test_gates_of_the_blocks_where_there_are_some(show):
    shown = show("gated")
    shown.begin(*(parallel(e) for e in range(20)))
    columns = ["stage", "blocks", "epoch", "step", "samples/s", "loss", "queue", "gate", "test %"]
    assert stripped(shown.lines()[1]) == columns
    assert [stripped(line)[-2] for line in shown.lines()[2:]] == ["- -", "- -"]
    shown.end(1.0, parallel(0), gated([1.0, 0.843, 0.5, None]))
    _, last, header, *stages = shown.lines(80)
    assert last.endswith(", 1.00 s") and stripped(header) == columns
    assert [stripped(line)[-2:] for line in stages] == [["1.00 0.84", "75.00 75.00"], ["0.50 -", "75.00 75.00"]]
    shown.end(1.0, parallel(1), gated([None, 0.0, 0.25, 1.0]))  # a block that does not learn any more
    assert [stripped(line)[-2] for line in shown.lines()[3:]] == ["1.00 0.00", "0.25 1.00"]
    assert "gate" not in stripped(shown.lines(70)[2])


def test_many_gates_fold_in_their_column(show):
    shown = show("gated", counts=(4,))
    shown.begin(parallel(0))
    shown.end(1.0, parallel(0), gated([1.0, 0.75, 0.5, 0.25]))
    lines = shown.lines(78)
    assert all(len(line) <= 78 for line in lines) and not any("\u2026" in line for line in lines)
    assert all(text in " ".join(lines) for text in ("1.00", "0.75", "0.50", "0.25"))


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (80, ["stage", "blocks", "epoch", "step", "samples/s", "loss", "queue", "test %"]),
        (56, ["stage", "epoch", "samples/s", "loss", "queue", "test %"]),
        (46, ["stage", "samples/s", "loss", "queue", "test %"]),
        (38, ["stage", "samples/s", "loss", "test %"]),
        (20, ["stage", "samples/s"]),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most(show, width, columns):
    shown = show()
    shown.begin(parallel(0))
    shown.report(1.0, 0, 0, 11, 768, loss=0.25)
    lines = shown.lines(width)
    header = next(i for i, line in enumerate(lines) if line.startswith("stage"))
    assert stripped(lines[header]) == columns
    assert all(len(line) <= width for line in lines)
    assert not any("\u2026" in line for line in lines)


def test_no_bar_where_there_is_no_room(show):
    shown = show()
    shown.begin(parallel(0))
    assert shown.lines(38)[0] == "epoch  1/20  0 %"


def test_replicas_have_a_row_each(show):
    shown = show(replicas=(1, 2))
    assert shown.lines()[0].startswith("starting 2 stages")
    shown.begin(parallel(0))
    for process, (stage, replica) in enumerate([(0, 0), (1, 0), (1, 1)]):
        shown.clock.pass_s(1.0)
        body = report(stage, 0, process, 64 * (process + 1), fill=0)
        shown.view.progress({**body, "process": process, "replica": replica})
    assert [stripped(line)[:4] for line in shown.lines()[2:]] == [
        ["0", "0-1", "1", "1/23"], ["1.0", "2-3", "1", "2/23"], ["1.1", "2-3", "1", "3/23"],
    ]
