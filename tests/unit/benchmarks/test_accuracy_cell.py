"""Bands, figures, checks and the order of rows."""

import pytest

from benchmarks.accuracy import metrics
from benchmarks.accuracy.cell import Band, Cell, Check, in_order
from pipeline.errors import ConfigError

RUN = {"errors": [12.0, 4.1, 2.6, 3.0], "test_losses": [0.5, 0.3, 0.2, 0.25], "train_losses": [0.6, None],
       "credit": [[1.0, 1.0], [1.0, 0.9], [0.9, 0.5], [0.7, 0.8]],
       "epochs": 2, "filters": {"before": 50.5, "after": 40.25},
       "neighbours": [{"epoch": 0, "blocks": [None, 0.25]}, {"epoch": 2, "blocks": [0.5, 0.75]}],
       "angles": [{"epoch": 0, "all": 95.0, "blocks": [120.0]}, {"epoch": 1, "all": 20.0, "blocks": [30.0, None]},
                  {"epoch": 2, "all": 25.0, "blocks": [10.0, 44.0]}]}  # fmt: skip
NOTHING = {"errors": [], "test_losses": [], "train_losses": [], "credit": None, "angles": None, "epochs": 2}


@pytest.mark.parametrize(
    ("band", "inside", "out", "text"),
    [
        (Band(most=2.6), (100 * (1 - 0.974), 0.0, -1.0), (2.61,), "at most 2.6"),
        (Band(least=2.0), (2.0, 90.0), (1.99,), "at least 2"),
        (Band(0.12, 0.3), (0.12, 0.3, 0.1571), (0.119, 0.301), "0.12 to 0.3"),
        (Band.around(88.65, 0.1), (88.55, 88.75), (88.54, 88.76), "88.55 to 88.75"),
    ],
)
def test_a_band_includes_its_ends_and_says_what_it_is(band, inside, out, text):
    assert all(value in band for value in inside) and not any(value in band for value in out)
    assert str(band) == text


def test_figures_are_read_off_a_run():
    assert (metrics.best(RUN), metrics.last(RUN), metrics.best_epoch(RUN)) == (2.6, 3.0, 3.0)
    assert (metrics.after(2)(RUN), metrics.best_within(2)(RUN)) == (4.1, 4.1)
    assert [metrics.epochs_to(error)(RUN) for error in (4.1, 2.6, 2.5)] == [2.0, 3.0, None]
    assert (metrics.test_loss(RUN), metrics.train_loss(RUN)) == (0.25, None)
    assert (metrics.depth(1)(RUN), metrics.depth(-1)(RUN)) == (2.0, 1.5)
    assert metrics.depth_rise(RUN) == pytest.approx(0.1)
    assert (metrics.angle(1)(RUN), metrics.angle(0)(RUN)) == (20.0, 95.0)
    assert [metrics.filter_variation(when)(RUN) for when in ("before", "after")] == [50.5, 40.25]
    assert (metrics.block_angle(0, 1)(RUN), metrics.block_angle(1, 2)(RUN)) == (30.0, 44.0)
    assert (metrics.loss_after(1)(RUN), metrics.loss_after(4)(RUN)) == (0.5, 0.25)


def test_a_run_that_selected_its_weights_has_one_error_and_no_course():
    run = {"errors": [2.5], "test_losses": [0.1], "selected": True}
    assert (metrics.last(run), metrics.best(run)) == (2.5, 2.5)
    assert metrics.after(1)(run) is None and metrics.best_epoch(run) is None
    assert metrics.best_within(1)(run) is None and metrics.loss_after(1)(run) is None
    assert metrics.epochs_to(3.0)(run) is None
    assert metrics.after(1)({**run, "selected": False}) == 2.5


def test_the_largest_angle_is_that_of_late_measurements():
    assert [metrics.angle_most(since)(RUN) for since in (0, 1, 2, 3)] == [120.0, 44.0, 44.0, None]
    early = {"angles": [{"epoch": 1, "blocks": [80.0]}, {"epoch": 10, "blocks": [None, 30.0]}]}
    assert metrics.angle_most(10)(early) == 30.0


def test_votes_of_neighbours_before_and_after_training_in_percent():
    found = [metrics.neighbours(when, block)(RUN) for when in ("before", "after") for block in (0, 1)]
    assert found == [None, 25.0, 50.0, 75.0]


@pytest.mark.parametrize("name", ["best", "last", "best_epoch", "test_loss", "train_loss", "depth_rise"])
def test_a_run_without_a_figure_has_none(name):
    assert getattr(metrics, name)(NOTHING) is None


@pytest.mark.parametrize(
    "metric", [metrics.angle_most(0), metrics.neighbours("after", 0), metrics.filter_variation("after")]
)
def test_a_run_that_was_not_measured_has_no_such_figure(metric):
    assert metric(NOTHING) is None


def test_an_epoch_that_was_not_reached_has_no_figure():
    assert metrics.after(5)(RUN) is None and metrics.best_within(5)(RUN) is None
    assert metrics.depth(5)(RUN) is None and metrics.angle(3)(RUN) is None
    assert metrics.block_angle(0, 3)(RUN) is None and metrics.loss_after(5)(RUN) is None


def test_an_order_compares_every_row_with_those_of_the_next_group():
    check = in_order("a before b", "best", [["a", "b"], ["c"], ["d"]], slack=0.5)
    column = "best"
    assert check == Check("a before b", [(("a", column), ("c", column)), (("b", column), ("c", column)),
                                         (("c", column), ("d", column))], Band(most=0.5))  # fmt: skip


def test_a_cell_s_config_is_nested_placed_and_checked():
    cell = Cell("a", {"model.name": "mlp", "model.depth": 2, "train.epochs": 30, "run.threads": 2}, [], device="cuda")
    assert cell.nested(7) == {
        "seed": 7, "run": {"stages": 1, "threads": 2, "predict": False, "device": "cuda"},
        "model": {"name": "mlp", "depth": 2}, "train": {"epochs": 30},
    }  # fmt: skip
    assert cell.checked(7).train.epochs == 30 and cell.checked(quick=True).train.epochs == 2
    with pytest.raises(ConfigError, match="unknown key"):
        Cell("a", {"train.epoch": 3}, []).checked()


def test_a_quick_run_is_short_and_its_wave_as_steep_as_before():
    config = {"train.epochs": 20, "gate.form": "G3", "gate.delay": 5.0, "gate.ramp": 10.0, "gate.tau": 0.5}
    quick = Cell("wave", config, []).nested(0, quick=True)
    assert quick["train"] == {"epochs": 2}
    assert quick["gate"] == {"form": "G3", "delay": 0.5, "ramp": 1.0, "tau": 0.5}
    assert Cell("wave", config, []).nested(0)["gate"]["delay"] == 5.0
