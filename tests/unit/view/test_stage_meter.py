import pytest
from tests.support.views import report

from workers.view.stage_meter import StageMeter


def reported(*points, start=0.0):
    """A meter after reports at the given (second, samples so far)."""
    meter = StageMeter()
    meter.begin(start)
    for step, (now, samples) in enumerate(points):
        meter.take(report(0, 0, step, samples), now)
    return meter


def test_there_is_no_rate_before_a_report():
    assert StageMeter().samples_per_s(1.0) is None
    assert reported().samples_per_s(1.0) is None


def test_rate_counts_from_the_beginning_of_work():
    assert reported((1.0, 300)).samples_per_s(1.0) == 300
    assert reported((1.0, 300), (2.0, 400)).samples_per_s(2.0) == 200


def test_rate_forgets_what_lies_before_the_window():
    # 100 per second for ten seconds, then 1000 per second for three.
    points = [(float(t), 100 * t) for t in range(1, 11)] + [(10.0 + t, 1000 + 1000 * t) for t in range(1, 4)]
    assert reported(*points).samples_per_s(13.0) == 1000


def test_rate_of_slow_steps_reaches_back_by_one_report():
    assert reported((10.0, 50), (20.0, 150)).samples_per_s(20.0) == 10


def test_the_number_of_points_kept_is_bounded():
    meter = reported(*((0.25 * t, 10 * t) for t in range(1, 1000)))
    assert len(meter._points) <= 10


def test_a_silent_stage_gets_slower():
    meter = reported((1.0, 100), (2.0, 200))
    assert meter.samples_per_s(4.0) == 100
    assert meter.samples_per_s(20.0) == 10


def test_a_stage_whose_steps_take_long_is_not_silent_between_them():
    meter = reported((30.0, 300), (60.0, 600))
    assert meter.samples_per_s(100.0) == 10


def test_two_reports_at_one_time():
    assert reported((0.0, 64)).samples_per_s(0.0) is None


def test_newest_report():
    meter = StageMeter()
    meter.take(report(1, 0, 7, 512, loss=0.25, fill=3), 1.0)
    assert (meter.steps_done, meter.loss, meter.fill) == (8, 0.25, 3)


def test_resting_takes_no_rate_and_the_next_work_counts_on():
    meter = reported((1.0, 100))
    assert not meter.is_resting
    meter.rest()
    assert meter.is_resting
    assert (meter.samples_per_s(2.0), meter.loss, meter.fill) == (None, None, None)
    meter.begin(50.0)
    meter.take(report(0, 9, 9, 300), 51.0)
    assert meter.samples_per_s(51.0) == 200


@pytest.mark.parametrize(("steps", "expected"), [(23, 23), (5, 8)])
def test_an_epochs_end_never_takes_steps_back(steps, expected):
    meter = StageMeter()
    meter.take(report(0, 0, 7, 512), 1.0)
    meter.finish(steps)
    assert meter.steps_done == expected
