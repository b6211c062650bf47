import json
from dataclasses import replace

import pytest

from pipeline.planning import taken
from pipeline.planning.prediction import Pace, Prediction, predict
from pipeline.planning.taken import Taken
from pipeline.schedules.batching import Batching

PACE = Pace(stage_s=(0.1, 0.2), first_s=0.5, step_s=0.2, eval_s=0.05)
TRAFFIC = Batching(num_train=95, num_test=30, batch_size=10, eval_batch_size=15, microbatches=1, in_flight=1)


@pytest.mark.parametrize(
    ("epochs", "eval_every", "evaluations"), [(1, 1, 1), (4, 1, 4), (4, 2, 2), (5, 2, 3), (2, 10, 1)]
)
def test_the_rate_counts_the_first_fill_every_step_and_every_evaluation(epochs, eval_every, evaluations):
    seconds = 0.5 + (epochs * 9.5 - 1) * 0.2 + evaluations * 2 * 0.05  # a smaller batch takes its share
    found = predict(PACE, TRAFFIC, epochs, eval_every)
    assert found.samples_per_s == pytest.approx(epochs * 95 / seconds, rel=1e-12)
    assert found.stage_s == (0.1, 0.2)


def test_a_run_of_part_of_a_step_takes_the_first_steps_time():
    tiny = Batching(num_train=5, num_test=1, batch_size=10, eval_batch_size=1, microbatches=1, in_flight=1)
    assert predict(PACE, tiny, 1, 1).samples_per_s == pytest.approx(5 / 0.55)


def test_a_pace_survives_json():
    assert Pace.from_dict({**PACE.to_dict(), "stage_s": [0.1, 0.2]}) == PACE
    told = replace(PACE, taken=Taken(1000.0, 0.5, 1.1))
    assert Pace.from_dict(json.loads(json.dumps(told.to_dict()))) == told


@pytest.mark.parametrize("table", [{}, [], {**PACE.to_dict(), "first_s": None}, {**PACE.to_dict(), "stage_s": ["a"]},
                                   {**PACE.to_dict(), "taken": {}}])
def test_what_is_no_pace(table):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Pace.from_dict(table)


def test_names_in_the_result():
    told = {"stage_s": [0.1, 0.2], "samples_per_s": 50.0, "measured": None}
    assert Prediction((0.1, 0.2), 50.0).to_dict() == told
    measured = {"at": 1000.0, "age_s": 5.0, "cpu_share": 0.5, "is_busy": True}
    assert Prediction((0.1, 0.2), 50.0, Taken(1000.0, 0.5, 1.1), 5.0).to_dict() == {**told, "measured": measured}


def test_a_prediction_knows_the_age_of_its_measurements(monkeypatch):
    monkeypatch.setattr(taken.time, "time", lambda: 1090.0)
    found = predict(replace(PACE, taken=Taken(1000.0, 1.0)), TRAFFIC, 1, 1)
    assert found.age_s == 90.0 and found.words == "measured 1 min 30 s ago (--fresh measures again)"
    assert predict(PACE, TRAFFIC, 1, 1).words == ""
