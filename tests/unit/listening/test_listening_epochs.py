"""Rows of a record become epochs, and epochs become numbers with names."""

import json

from workers.listening.epochs import LoggedRun, LogRow, events, log_rows, numbers_of

TIME = {"forward_s": 0.5, "wall_s": 1.0}
END = {"event": "finished", "status": "completed", "epochs": 2, "wall_s": 4.0, "test": {"accuracy": 0.75, "loss": 0.5}}


def run(tmp_path, processes=2, blocks=3):
    return LoggedRun(tmp_path, {}, blocks, processes)


def block(k, accuracy=None, **more):
    return {"block": k, "trained": True, "train_loss": 0.5, "test_accuracy": accuracy, "test_loss": None, **more}


def row(epoch, stage, *blocks, **more):
    return json.dumps({
        "event": "epoch", "time_s": 1.0, "epoch": epoch, "stage": stage, "blocks": list(blocks), "checked": 9,
        "samples": 100, "time": TIME, "staleness": {"mean": 0.0, "max": 0, "counts": [3]}, **more,
    })  # fmt: skip


def test_an_epoch_is_told_when_every_process_has(tmp_path):
    items = [row(0, 1, block(2, 0.5)), row(1, 1, block(2, 0.6)), row(0, 0, block(0), block(1)), row(1, 0, block(0))]
    told = list(events(items, run(tmp_path)))
    assert [(event, table["epoch"], table["test_accuracy"]) for event, table in told] == [
        ("epoch", 0, 0.5), ("epoch", 1, 0.6),
    ]  # fmt: skip
    assert [b["block"] for b in told[0][1]["blocks"]] == [0, 1, 2]
    assert [s["stage"] for s in told[0][1]["stages"]] == [0, 1] and "event" not in told[0][1]["stages"][0]


def test_a_network_whose_output_block_is_idle_has_no_scores_yet(tmp_path):
    ((_, table),) = events([row(0, 0, block(0, 0.5))], run(tmp_path, processes=1))
    assert table["test_accuracy"] is None and table["train_loss"] is None


def test_what_is_scored_by_a_validation_set_is_told_of_the_network_too(tmp_path):
    ((_, table),) = events([row(0, 0, block(2, validation_accuracy=0.5, validation_loss=1.5))], run(tmp_path, 1))
    assert (table["validation_accuracy"], table["validation_loss"], table["test_accuracy"]) == (0.5, 1.5, None)
    assert numbers_of(table)["validation_accuracy"] == numbers_of(table)["validation_accuracy/block2"] == 0.5


def test_what_a_restart_makes_void_is_forgotten_and_what_was_told_is_not_told_again(tmp_path):
    whole = [row(0, 0, block(0)), row(0, 1, block(2))]
    items = [*whole, row(1, 0, block(0)), json.dumps({"event": "restart", "epoch": 0}), *whole,
             row(1, 1, block(2)), row(1, 0, block(0))]  # fmt: skip
    assert [table["epoch"] for _, table in events(items, run(tmp_path))] == [0, 1]


def test_news_inside_of_epochs_are_passed_on(tmp_path):
    assert list(events([{"step": 3}, json.dumps({"event": "snapshot"})], run(tmp_path))) == [("step", {"step": 3})]


def test_the_end_of_a_run_is_told_with_its_result(tmp_path):
    failure = {"event": "failure", "time_s": 1.0, "status": "failed", "error": "why", "lost": False}
    assert list(events([json.dumps(failure)], run(tmp_path))) == [("end", {"status": "failed", "error": "why"})]
    ((_, table),) = events([json.dumps(END)], run(tmp_path))
    assert table == {k: v for k, v in END.items() if k != "event"}


def test_numbers_have_the_name_of_what_they_measure_and_where(tmp_path):
    items = [row(4, 0, block(0, 0.25, test_metrics={"top5": 0.5})), row(4, 1, block(2, 0.5), replica=1)]
    ((_, table),) = events(items, run(tmp_path))
    assert numbers_of(table) == {
        "train_loss": 0.5, "test_accuracy": 0.5, "train_loss/block0": 0.5, "test_accuracy/block0": 0.25,
        "top5/block0": 0.5, "train_loss/block2": 0.5, "test_accuracy/block2": 0.5,
        "samples/stage0": 100, "forward_s/stage0": 0.5, "wall_s/stage0": 1.0, "staleness/stage0": 0.0,
        "samples/stage1.1": 100, "forward_s/stage1.1": 0.5, "wall_s/stage1.1": 1.0, "staleness/stage1.1": 0.0,
    }  # fmt: skip


def test_means_have_the_name_of_their_quantity_and_metrics_that_of_their_split(tmp_path):
    metrics = {"test_metrics": {"top5": 0.5}, "validation_metrics": {"top5": 0.75}}
    items = [row(0, 0, block(0, **metrics), fill={"mean": 1.5, "max": 4})]
    ((_, table),) = events(items, run(tmp_path, processes=1))
    numbers = numbers_of(table)
    assert (numbers["top5/block0"], numbers["validation_top5/block0"], numbers["fill/stage0"]) == (0.5, 0.75, 1.5)
    assert not {"mean/stage0", "max/stage0"} & set(numbers)


def test_a_logger_gets_epochs_and_one_last_row(tmp_path):
    items = [row(0, 0, block(2, 0.5)), {"step": 3}, json.dumps(END)]
    epoch, result = log_rows(items, run(tmp_path, processes=1))
    assert (epoch.event, epoch.epoch, epoch.numbers["test_accuracy"]) == ("epoch", 0, 0.5)
    numbers = {"epochs": 2, "wall_s": 4.0, "test_accuracy": 0.75, "test_loss": 0.5}
    assert result == LogRow("result", 2, numbers)


def test_a_logger_is_told_that_a_run_has_failed(tmp_path):
    items = [row(6, 0, block(2)), json.dumps({"event": "failure", "status": "interrupted", "error": "", "lost": True})]
    assert list(log_rows(items, run(tmp_path, processes=1)))[1:] == [LogRow("failure", 7)]
