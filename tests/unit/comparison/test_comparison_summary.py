import os

from workers.comparison.summary import summary_of
from workers.comparison.text import comparison_lines, round_line


def result(accuracy, rate, wall_s, *stages):
    rows = [
        {"pid": pid, "peak_rss_bytes": rss, "peak_device_bytes": device, "parameter_bytes": 10, "optimizer_bytes": 20,
         "held_bytes": 1024, "queue_bytes": None} for pid, rss, device in stages
    ]  # fmt: skip
    return {
        "test": {"accuracy": accuracy}, "train_samples_per_s": rate, "wall_s": wall_s, "epochs": 2, "stages": rows,
        "rule": "pred", "num_stages": len(stages), "threads_per_stage": 1,
    }  # fmt: skip


OWN = [
    result(0.90, 200.0, 4.0, (1, 100, None), (2, 300, None)), result(0.94, 330.0, 3.0, (3, 200, None), (4, 200, None)),
]  # fmt: skip
OTHER = [result(0.95, 100.0, 8.0, (5, 200, None)), result(0.95, 110.0, 9.0, (6, 200, None))]


def test_medians_of_rounds_and_ratios_round_by_round():
    table = summary_of({"parallel": OWN, "backprop": OTHER})
    own, ratios = table["arms"]["parallel"], table["ratios"]["backprop"]
    assert (round(own["test"], 9), own["samples_per_s"], own["epoch_s"], own["peak_bytes"]) == (0.92, 265.0, 1.75, 400)
    assert round(own["test_std"], 6) == 0.028284 and own["tests"] == [0.90, 0.94] and own["epochs"] == [2, 2]
    assert own["memory"]["held_bytes"] == 2048 and own["memory"]["queue_bytes"] is None
    assert ratios["samples_per_s"] == 2.5 and ratios["samples_per_s_range"] == [2.0, 3.0]
    assert round(ratios["test"], 6) == -0.03 and ratios["peak_bytes"] == 2.0
    assert list(table["arms"]) == ["parallel", "backprop"] and list(table["ratios"]) == ["backprop"]


def test_stages_of_one_process_share_its_peak_and_a_device_counts_before_the_host():
    table = summary_of({"a": [result(None, 1.0, 1.0, (1, 500, None), (1, 500, None))],
                        "b": [result(None, 1.0, 1.0, (1, 500, 70), (2, 500, 30))]})  # fmt: skip
    assert table["arms"]["a"]["peak_bytes"] == 500 and table["arms"]["b"]["peak_bytes"] == 100
    assert table["arms"]["a"]["test"] is None and table["ratios"]["b"]["test"] is None
    assert table["arms"]["a"]["test_std"] is None and table["arms"]["a"]["memory"]["parameter_bytes"] == 20


def test_a_peak_of_this_process_is_that_of_all_runs_in_it_and_is_left_out():
    own = [result(0.9, 1.0, 1.0, (os.getpid(), 500, 70), (os.getpid(), 500, 30))]
    table = summary_of({"a": own, "b": OTHER[:1]})
    assert table["arms"]["a"]["peak_bytes"] is None and table["ratios"]["b"]["peak_bytes"] is None
    assert table["arms"]["a"]["memory"]["peak_device_bytes"] is None
    assert table["arms"]["a"]["memory"]["held_bytes"] == 2048
    last = comparison_lines(table)[-1]
    assert last == "a against b: 0.01 times as fast, 5.00 points less accurate"


def test_what_is_zero_divides_nothing():
    still = [{**result(0.9, 0.0, 0.0, (1, 0, None)), "epochs": 0}]
    table = summary_of({"a": OTHER[:1], "b": still})
    assert [table["ratios"]["b"][name] for name in ("samples_per_s", "epoch_s", "peak_bytes")] == [None] * 3
    assert comparison_lines(table)[-1] == "a against b: 5.00 points more accurate"


def test_the_lines_say_who_wins_by_how_much():
    lines = comparison_lines(summary_of({"parallel": OWN, "backprop": OTHER}))
    assert lines[0].split("  ")[0] == "mode"
    assert lines[1].startswith("parallel  pred  2 x 1             92.00 +- 2.83 %")
    assert lines[-1] == (
        "parallel against backprop: 2.5 times as fast (2 to 3), 3.00 points less accurate, 2 times the memory"
    )
    assert comparison_lines(summary_of({"a": OTHER[:1], "b": OTHER[:1]}))[-1] == (
        "a against b: 1 times as fast, as accurate, 1 times the memory"
    )
    last = comparison_lines(summary_of({"a": OTHER[:1], "b": OWN[:1]}))[-1]
    assert last.split(", ")[1] == "5.00 points more accurate"


def test_the_line_of_a_round():
    line = round_line("backprop", "1/3", OTHER[0])
    assert line == "round 1/3  backprop: test accuracy 95.00 %, 100 samples/s over 8.00 s"


def of_loss(result, loss):
    """The same run of a task that has no accuracy."""
    return {**result, "test": {"accuracy": None, "loss": loss}}


def test_a_task_without_accuracy_is_compared_by_its_test_loss():
    own, other = [of_loss(OWN[0], 0.4), of_loss(OWN[1], 0.6)], [of_loss(OTHER[0], 0.75), of_loss(OTHER[1], 0.75)]
    assert round_line("a", "1/2", own[0]) == "round 1/2  a: test loss 0.400, 200 samples/s over 4.00 s"
    table = summary_of({"parallel": own, "backprop": other})
    assert table["arms"]["parallel"]["test_loss"] == 0.5 and table["ratios"]["backprop"]["test_loss"] == -0.25
    lines = comparison_lines(table)
    assert "  test loss  " in lines[0] and "accura" not in "".join(lines)
    assert lines[1].startswith("parallel  pred  2 x 1             0.500 +- 0.141  1.75")
    assert lines[2].startswith("backprop  pred  1 x 1             0.750 +- 0")
    assert ", test loss 0.250 lower, 2 times the memory" in lines[-1]
    assert ", test loss 0.250 higher, " in comparison_lines(summary_of({"a": other, "b": own}))[-1]
    assert ", the same test loss, " in comparison_lines(summary_of({"a": other, "b": other}))[-1]
