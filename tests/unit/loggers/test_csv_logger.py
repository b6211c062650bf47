"""``metrics.csv``: a line for each epoch, whatever columns join in, and again behind a resume."""

import csv

from workers.listening.epochs import LoggedRun, LogRow
from workers.loggers.csv import build


def written(folder, *rows):
    build(LoggedRun(folder, {}, 1, 1), iter(rows))
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def epoch(number, **numbers):
    return LogRow("epoch", number, numbers)


def test_a_line_for_each_epoch(tmp_path):
    lines = written(tmp_path, epoch(0, loss=0.5), epoch(1, loss=0.25), LogRow("result", 2, {"wall_s": 1.0}))
    assert lines == [{"epoch": "0", "loss": "0.5"}, {"epoch": "1", "loss": "0.25"}]


def test_a_line_is_there_as_soon_as_its_epoch_is(tmp_path):
    def rows():
        yield epoch(0, loss=0.5)
        assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n0,0.5\n"
        yield epoch(1, loss=0.25)
        assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n0,0.5\n1,0.25\n"

    build(LoggedRun(tmp_path, {}, 1, 1), rows())


def test_what_is_measured_later_has_a_column_too(tmp_path):
    lines = written(tmp_path, epoch(0, a=1.0), epoch(1, b=2.0), epoch(2, a=3.0, b=4.0))
    assert lines == [{"epoch": "0", "a": "1.0", "b": ""}, {"epoch": "1", "a": "", "b": "2.0"},
                     {"epoch": "2", "a": "3.0", "b": "4.0"}]  # fmt: skip


def test_a_run_that_is_taken_up_goes_on_in_its_file(tmp_path):
    written(tmp_path, epoch(0, loss=0.5), epoch(1, loss=0.25), epoch(2, loss=0.125))
    lines = written(tmp_path, epoch(1, loss=0.25), epoch(2, loss=0.0625))
    assert [(line["epoch"], line["loss"]) for line in lines] == [("0", "0.5"), ("1", "0.25"), ("2", "0.0625")]


def test_a_line_that_broke_off_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,loss\n0,0.5\n\x00,")
    assert [line["epoch"] for line in written(tmp_path, epoch(1, loss=0.25))] == ["0", "1"]


def test_a_run_without_epochs_leaves_no_file(tmp_path):
    build(LoggedRun(tmp_path, {}, 1, 1), iter([LogRow("failure", 0)]))
    assert not (tmp_path / "metrics.csv").exists()
