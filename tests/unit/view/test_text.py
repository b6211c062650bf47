from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.views import Clock, blocks, parallel, placed, resolved, result, sequential, text

from pipeline.config import MeasureConfig
from pipeline.planning.prediction import Prediction
from pipeline.planning.taken import Taken
from pipeline.schedules.cuts import Cut
from pipeline.schedules.plan import Choice
from workers.view.text import RunText, block_range, gate_text, loss_text, plural


def told(mode="parallel", counts=(2, 2), clock=None, **kwargs):
    return text(resolved(mode), placed(counts, **kwargs), clock or Clock())


def after(seconds, teller, clock, plan, rows, **kwargs):
    clock.pass_s(seconds)
    return teller.epoch(plan, rows, **kwargs)


def test_headline_says_what_runs_where():
    assert told().headline() == (
        "predsim on digits, mlp of 4 blocks, parallel mode, 2 stages (blocks 0-1 | 2-3) on cpu, 1 thread each, "
        "shared_memory, 20 epochs of 23 steps"
    )


def test_headline_of_a_run_that_is_taken_up_says_where():
    teller = RunText(resolved("parallel"), placed(), Path("runs/one"), Clock(), Cut(2, 20))
    assert teller.headline().endswith(", 20 epochs of 23 steps, goes on at epoch 3, step 20")


def test_headline_of_one_stage_has_no_transport():
    assert told(counts=(4,), threads=2).headline() == (
        "predsim on digits, mlp of 4 blocks, parallel mode, 1 stage on cpu, 2 threads, 20 epochs of 23 steps"
    )


def test_headline_names_every_device_where_they_differ():
    headline = told(counts=(1, 3), devices=["cuda:0", "cuda:1"]).headline()
    assert "2 stages (blocks 0 on cuda:0 | 1-3 on cuda:1), 1 thread each" in headline


def test_headline_of_the_sequential_mode_promises_no_number_of_epochs():
    assert told("sequential").headline() == (
        "predsim on digits, mlp of 4 blocks, sequential mode, 2 stages (blocks 0-1 | 2-3) on cpu, 1 thread each, "
        "shared_memory, at most 20 epochs of 23 steps per block"
    )


def predicted(stage_s, samples_per_s, *taken):
    placement = replace(placed((2, 2)), predicted=Prediction(stage_s, samples_per_s, *taken))
    return text(resolved("parallel"), placement, Clock())


def test_headline_tells_what_is_predicted():
    assert predicted((0.01234, 0.0001189), 10400.3).headline().endswith(
        ", shared_memory, 20 epochs of 23 steps, predicted: 12.3 | 0.119 ms per batch, 10 400 samples/s"
    )


@pytest.mark.parametrize(
    ("taken", "words"),
    [((Taken(0.0, 1.0), 5.0), ""), ((Taken(0.0, 1.0), 7200.0), ", measured 2 h 00 min ago (--fresh measures again)"),
     ((Taken(0.0, 0.5), 0.0), ", measured on a busy machine (50 % of a core; --fresh measures again)")],
)  # fmt: skip
def test_headline_tells_how_old_and_how_disturbed_a_prediction_is(taken, words):
    assert predicted((0.01, 0.01), 10400.3, *taken).headline().endswith(f"10 400 samples/s{words}")


def test_ending_sets_what_was_predicted_beside_what_came():
    how, _ = predicted((0.1, 0.2), 18000.4).ending(result([0.5]))
    assert how == "done: test accuracy 50.00 %, 17 553 samples/s (predicted: 18 000) over 1.64 s"


def test_ending_says_what_the_command_does_next():
    run = resolved("parallel")
    measured = replace(run, config=replace(run.config, measure=MeasureConfig(every=2)))
    how, where = text(measured, placed((2, 2)), Clock()).ending(result([0.5]))
    assert how.endswith(" over 1.64 s, now measuring") and where == "files in runs/one"


def test_the_rule_of_a_baseline_is_the_one_that_runs():
    assert told("gpipe").headline().startswith("backprop on digits, mlp of 4 blocks, gpipe mode, ")


def test_an_epoch_is_told_by_its_output_block():
    clock = Clock()
    teller = told(clock=clock)
    rows = blocks(0, [0.1, 0.2, 0.3, 1.7559], [0.9, 0.91, 0.92, 0.9389])
    assert after(0.1, teller, clock, parallel(0), rows) == (
        "epoch  1/20  loss     1.756  test accuracy  93.89 %     14 370 samples/s     0.10 s"
    )


def test_lines_of_epochs_are_aligned():
    clock = Clock()
    teller = told(clock=clock)
    lines = [
        after(0.1, teller, clock, parallel(0), blocks(0, [123456.0], [0.05])),
        after(12.0, teller, clock, parallel(9), blocks(0, [0.00001], [1.0])),
        after(345.6, teller, clock, parallel(19), blocks(0, [None], [None])),
    ]
    assert len({len(line) for line in lines}) == 1
    for word in ("loss", "test accuracy", "%", "samples/s"):
        assert len({line.index(word) for line in lines}) == 1


def test_time_is_counted_from_the_start_and_then_from_epoch_to_epoch():
    clock = Clock()
    teller = told(clock=clock)
    clock.pass_s(5.0)
    teller.started()
    rows = blocks(0, [1.0], [0.5])
    assert after(4.0, teller, clock, parallel(0), rows).endswith("359 samples/s     4.00 s")
    assert after(1.0, teller, clock, parallel(1), rows).endswith("1 437 samples/s     1.00 s")


def test_an_epoch_without_evaluation_has_no_accuracy():
    clock = Clock()
    line = after(1.0, told(clock=clock), clock, parallel(0, evaluate=False), blocks(0, [0.5, 0.25], [None, None]))
    assert "loss    0.2500  test accuracy      - %" in line


def test_blocks_without_decoders_and_losses():
    clock = Clock()
    teller = told(clock=clock)
    line = after(1.0, teller, clock, parallel(0), blocks(0, [None, None], [None, None]), aligned=False)
    assert line == "epoch 1/20, loss -, test accuracy - %, 1 437 samples/s, 1.00 s"
    assert "loss -, test accuracy - %" in after(1.0, teller, clock, parallel(1), [], aligned=False)


def test_no_time_at_all_has_no_rate():
    clock = Clock()
    assert "- samples/s" in told(clock=clock).epoch(parallel(0), blocks(0, [1.0], [0.5]), aligned=False)


def test_a_phase_is_told_by_the_block_that_trains():
    clock = Clock()
    teller = told("sequential", clock=clock)
    # The block below runs forward only, the first epoch of a phase.
    rows = blocks(0, [..., 0.0224], [None, 0.9556])
    assert after(0.1, teller, clock, sequential(6, 1, 0, source=0), rows) == (
        "epoch  7  block 1 ( 1/20)  loss   0.02240  its test accuracy  95.56 %     14 370 samples/s     0.10 s"
    )
    assert after(0.1, teller, clock, sequential(6, 1, 0, source=0), rows, aligned=False) == (
        "epoch 7, block 1 (1/20), loss 0.02240, its test accuracy 95.56 %, 14 370 samples/s, 0.10 s"
    )


def test_the_loss_is_of_the_top_training_block_and_the_score_of_the_network_where_its_last_block_is_frozen():
    clock = Clock()
    line = after(1.0, told(clock=clock), clock, parallel(0), blocks(0, [0.25, ...], [0.5, 0.75]))
    assert "loss    0.2500  test accuracy  75.00 %" in line


def test_ending():
    assert told().ending(result([0.95, 0.9694, 0.9722, 0.9722])) == (
        "done: test accuracy 97.22 %, blocks 0-3: 95.00 96.94 97.22 97.22 %, 17 553 samples/s over 1.64 s",
        "files in runs/one",
    )


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.5], "done: test accuracy 50.00 %, 17 553"),
        ([None, None, 0.5], "done: test accuracy 50.00 %, 17 553"),
        ([0.25, None, 0.5], "done: test accuracy 50.00 %, blocks 0-2: 25.00 - 50.00 %, 17 553"),
        ([None, None], "done: 17 553"),
        ([0.25, None], "done: blocks 0-1: 25.00 - %, 17 553"),
    ],
)
def test_ending_lists_the_blocks_that_have_an_accuracy(accuracies, expected):
    assert told().ending(result(accuracies))[0].startswith(expected)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(None, "-"), (1.7559, "1.756"), (0.02, "0.02000"), (1e-5, "1.000e-05"), (-0.5, "-0.5000"), (float("nan"), "nan")],
)
def test_loss_text(loss, expected):
    assert loss_text(loss) == expected


def test_blocks_and_counts():
    assert (plural(1, "stage"), plural(2, "stage")) == ("1 stage", "2 stages")
    assert (block_range(range(2, 3)), block_range(range(2, 5))) == ("2", "2-4")


def test_headline_counts_the_processes_of_a_stage():
    shared = replace(placed(devices=["cpu"] * 3), counts=(1, 2))
    assert "2 stages (blocks 0-1 | 2-3 in 2 processes) on cpu, 1 thread each, shared_memory" in text(
        resolved(), shared, Clock()).headline()
    gpus = replace(placed(devices=["cuda:0", "cuda:1", "cuda:2"]), counts=(1, 2))
    assert "2 stages (blocks 0-1 on cuda:0 | 2-3 on cuda:1 and cuda:2)" in text(resolved(), gpus, Clock()).headline()


def test_the_validation_set_is_what_is_shown_until_the_test_set_is_scored():
    clock, known = Clock(), resolved()
    run = replace(known, batching=replace(known.batching, num_validation=100))
    teller = text(run, placed(), clock)
    rows = [{**row, "validation_accuracy": 0.75} for row in blocks(0, [1.0] * 4, [None] * 4)]
    line = teller.epoch(parallel(0), rows, aligned=False)
    assert ", validation accuracy 75.00 %, " in line
    last = replace(parallel(20), choice=Choice(6, 20, restore=6, scores_test=True))
    line = teller.epoch(last, blocks(0, [...] * 4, [0.5, 0.5, 0.5, 0.625]))
    assert line == "test set, by the weights of epoch 7: test accuracy 62.50 %"
    assert teller.position(last) == "test set"
    assert teller.ending(result([0.5, 0.5, 0.5, 0.625]))[0].startswith("done: test accuracy 62.50 %")


def test_an_epoch_of_a_gated_run_tells_the_least_and_the_most_of_its_gates():
    rows = blocks(0, [1.0, 2.0], [0.5, 0.25])
    teller, gates = told("gated"), [0.126, 1.0]
    line = teller.epoch(parallel(0), [{**row, "gate": gate} for row, gate in zip(rows, gates, strict=True)])
    assert line.endswith(" s  gate 0.13 to 1.00") and gate_text(None) == "-"
    assert "gate" not in teller.epoch(parallel(0), rows)
