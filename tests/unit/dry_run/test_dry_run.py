"""When there is a dry run, what is made of it, and which partition is taken; the dry run itself is replaced."""

import dataclasses
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.planning.prediction import Pace, predict
from pipeline.planning.taken import Taken
from pipeline.resolve import resolve
from workers.dry_run import dry_run
from workers.dry_run.dry_run import pace_key, predict_run, validate
from workers.dry_run.pace import step_s_of, steps_ahead, taken_of
from workers.dry_run.stage import DryRunSpec, StageTimings
from workers.placement import Host, Placement

ALONE = Host(cores=2, num_gpus=0)
ROOT = Path("nowhere")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONWARD_CACHE", str(tmp_path))


@pytest.fixture
def stages(monkeypatch):
    """Seconds of each stage by the sizes of the partition; remembers which were tried."""

    class DryRuns(dict):
        heard = []

    known = DryRuns()
    known.heard = []

    def dry(resolved, placement, cores, data_root):
        sizes = tuple(len(blocks) for blocks in placement.partition)
        known.heard.append(sizes)
        return Pace(known[sizes], 0.1, max(known[sizes]), 0.01)

    monkeypatch.setattr(dry_run, "_dry_run", dry)
    return known


def run(**sections):
    """Four blocks, 23 steps in each of 20 epochs."""
    table = {"model": {"name": "mlp", "depth": 3, "width": 8, "norm": "none", "dropout": 0.0}, **sections}
    return resolve(Config.from_dict(table), ROOT)


def placed(*sizes, block_s=None, transport="shared_memory"):
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    ranges = tuple(range(end - size, end) for end, size in zip(ends, sizes, strict=True))
    return Placement(ranges, ("cpu",) * len(sizes), transport, 1, block_s)


def sizes(placement):
    return tuple(len(blocks) for blocks in placement.partition)


def test_a_run_is_predicted_by_a_dry_run(stages):
    stages[2, 2] = (0.02, 0.01)
    ours = run()
    found = predict_run(ours, placed(2, 2), ALONE, ROOT)
    assert found.predicted == predict(Pace((0.02, 0.01), 0.1, 0.02, 0.01), ours.batching, 20, 1)
    assert dataclasses.replace(found, predicted=None) == placed(2, 2)


@pytest.mark.parametrize(
    ("sections", "host"),
    [
        ({"schedule": {"mode": "sequential"}}, ALONE),
        ({"run": {"predict": False}}, ALONE),
        ({"train": {"epochs": 1}}, ALONE),  # 23 steps
        ({}, Host(2, 0, num_ranks=4, ranks_here=2)),
    ],
    ids=["sequential", "not-wanted", "few-steps", "two-hosts"],
)
def test_where_nothing_can_be_told_nothing_is_said(stages, sections, host):
    assert predict_run(run(**sections), placed(2, 2), host, ROOT) == placed(2, 2)
    assert stages.heard == []


def test_a_dry_run_that_fails_stops_nothing(monkeypatch):
    def fails(*_):
        raise RuntimeError("this block breaks down")

    monkeypatch.setattr(dry_run, "_dry_run", fails)
    assert predict_run(run(), placed(2, 2), ALONE, ROOT) == placed(2, 2)


def test_the_same_run_has_one_dry_run(stages):
    stages[2, 2] = (0.02, 0.01)
    first = predict_run(run(), placed(2, 2), ALONE, ROOT)
    again = predict_run(run(seed=3, train={"epochs": 20}), placed(2, 2), ALONE, ROOT)
    assert again == first and stages.heard == [(2, 2)]


def test_the_users_own_code_has_a_dry_run_every_time(stages):
    stages[2, 2] = (0.02, 0.01)
    for _ in range(2):
        theirs = run(model={"name": "tests.support.conv_net.small"}, rule={"name": "pred"})
        assert predict_run(theirs, placed(2, 2), ALONE, ROOT).predicted is not None
    assert stages.heard == [(2, 2)] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"train": {"batch_size": 32}}, {"train": {"eval_batch_size": 9}}, {"transport": {"depth": 2}},
        {"dataset": {"name": "digits", "crop_padding": 1}}, {"run": {"partition": "parameters"}},
        {"rule": {"name": "pred"}},
    ],
    ids=str,
)  # fmt: skip
def test_another_run_has_a_dry_run_of_its_own(stages, other):
    stages[2, 2] = (0.02, 0.01)
    predict_run(run(), placed(2, 2), ALONE, ROOT)
    predict_run(run(**other), placed(2, 2), ALONE, ROOT)
    assert len(stages.heard) == 2


def test_another_number_of_stages_or_threads_has_a_dry_run_of_its_own(stages):
    stages.update({(2, 2): (0.02, 0.01), (1, 1, 2): (0.01, 0.01, 0.01)})
    for placement in (placed(2, 2), placed(1, 1, 2), dataclasses.replace(placed(2, 2), threads=2)):
        predict_run(run(), placement, ALONE, ROOT)
    assert stages.heard == [(2, 2), (1, 1, 2), (2, 2)]


def test_stages_that_turn_out_uneven_are_laid_out_again(stages):
    stages.update({(2, 2): (0.04, 0.01), (1, 3): (0.025, 0.025)})
    found = predict_run(run(), placed(2, 2, block_s=(1.0, 1.0, 1.0, 1.0)), ALONE, ROOT)
    assert sizes(found) == (1, 3) and found.predicted.stage_s == (0.025, 0.025)
    assert stages.heard == [(2, 2), (1, 3)]
    again = predict_run(run(), placed(2, 2, block_s=(1.0, 1.0, 1.0, 1.0)), ALONE, ROOT)  # and stay there
    assert again == found and len(stages.heard) == 2


def test_a_partition_that_is_not_faster_is_not_taken(stages):
    stages.update({(2, 2): (0.04, 0.01), (1, 3): (0.02, 0.05)})
    found = predict_run(run(), placed(2, 2, block_s=(1.0,) * 4), ALONE, ROOT)
    assert sizes(found) == (2, 2) and found.predicted.stage_s == (0.04, 0.01)


def test_no_more_than_two_other_partitions_are_tried(stages):
    stages.update({(3, 1): (0.9, 0.01), (2, 2): (0.8, 0.01), (1, 3): (0.7, 0.01)})
    costs = (1.0, 1.0, 1.0, 1.0)
    assert sizes(predict_run(run(), placed(3, 1, block_s=costs), ALONE, ROOT)) == (1, 3)
    assert stages.heard == [(3, 1), (2, 2), (1, 3)]


@pytest.mark.parametrize(
    ("sections", "placement"),
    [
        ({}, placed(2, 2)),  # the user's own partition, or by parameters
        ({}, placed(2, 2, block_s=(1.0,) * 4, transport="inline")),
        ({"rule": {"name": "backprop"}}, placed(2, 2, block_s=(1.0,) * 4)),  # stages work one after another
    ],
    ids=["given", "inline", "lock-step"],
)
def test_partitions_that_stay(stages, sections, placement):
    stages[2, 2] = (0.04, 0.01)
    assert sizes(predict_run(run(**sections), placement, ALONE, ROOT)) == (2, 2)
    assert stages.heard == [(2, 2)]


@pytest.mark.parametrize(
    "kept", [{"sizes": [1, 1, 2]}, {"sizes": [3, 3]}, {"sizes": "ab"}, {"pace": None}, {"pace": {}},
             {"pace": Pace((0.5,), 0.1, 0.5, 0.1).to_dict()}, {"pace": Pace((0.0, 0.0), 0.0, 0.0, 0.0).to_dict()}],
    ids=str,
)
def test_a_cache_that_holds_something_else_is_not_believed(stages, monkeypatch, kept):
    stages[2, 2] = (0.02, 0.01)
    value = {"sizes": [2, 2], "pace": Pace((0.5, 0.5), 0.1, 0.5, 0.1).to_dict(), **kept}
    monkeypatch.setattr(dry_run.cost_cache, "recall", lambda kind, key: value)
    assert predict_run(run(), placed(2, 2), ALONE, ROOT).predicted.stage_s == (0.02, 0.01)


@pytest.mark.parametrize("other", [{"chaos": {"delay_s": 0.05}}, {"train": {"nonfinite": "skip"}}], ids=str)
def test_what_makes_a_run_slower_is_not_found_by_the_pace_without(other):
    assert pace_key(run(**other), placed(2, 2)) != pace_key(run(), placed(2, 2)) == pace_key(run(), placed(2, 2))


def paces(monkeypatch, *shares):
    """Dry runs whose stages have that much of a processor, one after another; returns those that are to come."""
    left = list(shares)
    monkeypatch.setattr(
        dry_run, "_dry_run", lambda *_: Pace((0.02, 0.01), 0.1, 0.02, 0.01, Taken(1000.0, left.pop(0)))
    )
    return left


def test_a_pace_of_a_busy_machine_is_measured_again_at_its_next_use(monkeypatch):
    left = paces(monkeypatch, 0.5, 1.0)
    busy, quiet, known = (predict_run(run(), placed(2, 2), ALONE, ROOT).predicted for _ in range(3))
    assert left == [] and (busy.taken.share, quiet.taken.share, known.taken.share) == (0.5, 1.0, 1.0)
    assert "on a busy machine (50 % of a core;" in busy.words and known.age_s > 1e6
    assert known.words.endswith(" ago (--fresh measures again)")


@pytest.mark.parametrize(("cores", "share"), [(1, None), (2, 0.5)])
def test_stages_that_share_cores_blame_nobody(monkeypatch, cores, share):
    paces(monkeypatch, 0.5)
    assert predict_run(run(), placed(2, 2), Host(cores, 0), ROOT).predicted.taken.share == share


def test_a_prediction_tells_its_age_in_the_result(monkeypatch):
    paces(monkeypatch, 1.0)
    told = predict_run(run(), placed(2, 2), ALONE, ROOT).predicted.to_dict()["measured"]
    assert told["at"] == 1000.0 and told["age_s"] > 1e6 and told["cpu_share"] == 1.0 and told["is_busy"] is False


@pytest.mark.parametrize(("ratio", "dry_runs"), [(1.0, 1), (1.09, 1), (0.91, 1), (1.2, 2), (0.5, 2)])
def test_a_prediction_that_was_wrong_is_forgotten(stages, ratio, dry_runs):
    stages[2, 2] = (0.02, 0.01)
    first = predict_run(run(), placed(2, 2), ALONE, ROOT)
    validate(run(), first, ratio * first.predicted.samples_per_s)
    predict_run(run(), placed(2, 2), ALONE, ROOT)
    assert len(stages.heard) == dry_runs


def test_a_run_that_was_not_predicted_has_nothing_to_confirm():
    validate(run(), placed(2, 2), 1.0)
    assert dry_run.cost_cache.recall("pace", {}) is None


def stage_that_takes(step_s, work_s, first_s=1.0, eval_s=0.1):
    """A runner whose steps take ``step_s``; remembers its specs."""
    specs = []

    def measure(spec):
        specs.append(spec)
        steps = [first_s + n * step_s for n in range(spec.num_steps)]
        evals = [steps[-1] + (n + 1) * eval_s for n in range(spec.num_evals)]
        first = StageTimings(0.0, steps, [], 0.0)
        return [first, StageTimings(0.0, steps, evals, work_s * spec.num_steps)]

    return measure, specs


@pytest.mark.parametrize(
    ("step_s", "num_steps", "num_evals"),
    [(0.001, 46, 6), (0.0499, 20, 4), (3.0, 6, 1)],
    ids=["a tenth of the run", "a second", "six at least"],
)
def test_how_much_is_measured(step_s, num_steps, num_evals):
    measure, specs = stage_that_takes(step_s, work_s=0.7 * step_s)
    found = dry_run._pace(measure, run(), placed(2, 2), 2)
    assert specs == [DryRunSpec(2), DryRunSpec(num_steps, steady=num_steps // 4), DryRunSpec(1, num_evals)]
    assert found.step_s == pytest.approx(step_s) and found.eval_s == pytest.approx(0.1)
    assert found.stage_s == pytest.approx((0.0, 0.7 * step_s)) and found.first_s == 1.0


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], 2.0),  # two of its intervals lie before the other stage has ended
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2.5),  # none does, so all count
        ([9.0, 9.1, 9.2, 9.3, 11.5], 2.5),
    ],
)
def test_the_pace_counts_while_all_stages_work(ahead, expected):
    last = [0.0, 1.0, 3.0, 5.0, 8.0, 11.0]
    stages = [StageTimings(0.0, steps, [], 1.0) for steps in (ahead, last)]
    assert step_s_of(stages, steady=1) == pytest.approx(expected)


def test_a_moment_of_something_else_does_not_count():
    last = [0.0]
    for step in range(100):
        last.append(last[-1] + (0.1 if step != 50 else 30.0))
    assert step_s_of([StageTimings(0.0, last, [], 1.0)], steady=0) == pytest.approx(0.1)


def test_a_pace_is_as_disturbed_as_its_most_disturbed_stage():
    steps = [0.0, 1.0, 2.0, 4.0]
    stages = [StageTimings(0.0, steps, [], 1.0, share) for share in (0.9, 0.6, None)]
    found = taken_of(stages, steady=0)
    assert found.share == 0.6 and found.spread == 1.0 and taken_of(stages, steady=3).spread is None


def test_on_a_gpu_stages_are_timed_again_with_the_device_at_rest():
    measure, specs = stage_that_takes(0.01, work_s=0.002)
    found = dry_run._pace(measure, run(), dataclasses.replace(placed(2, 2), devices=("cuda:0", "cuda:1")), 2)
    assert specs[2] == DryRunSpec(10, waits_for_device=True)
    assert found.stage_s == pytest.approx((0.0, 0.002))


def test_a_dry_run_that_takes_too_long_is_mentioned_and_the_run_goes_on(monkeypatch, caplog):
    def slow(*_):
        raise TimeoutError("a stage of the dry run did not answer")

    monkeypatch.setattr(dry_run, "_refined", slow)
    assert predict_run(run(), placed(2, 2), ALONE, ROOT) == placed(2, 2)
    assert "the run's speed is not predicted: a stage of the dry run did not answer" in caplog.text


@pytest.mark.parametrize(("step_s", "counted"), [(5e-4, 3), (0.016, 3), (0.045, 3), (0.1, 3), (0.25, 2), (0.5, 1)])
def test_a_rehearsal_is_the_median_of_three_or_of_as_many_as_fit(monkeypatch, step_s, counted):
    """The first tries are short, and do not count; every later one is slower than the one before it."""
    tried = []

    @contextmanager
    def runner(*_):
        yield measure

    def measure(spec):
        one = step_s * (1 + len(tried) / 100)
        tried.append((one, one * spec.num_steps))
        return [StageTimings(0.0, [one * (k + 1) for k in range(spec.num_steps)], [], 0.0)]

    monkeypatch.setattr(dry_run, "_runner", runner)
    found, _ = dry_run.rehearse(run(), placed(4, transport="inline"), 2, ROOT)
    last = sorted(one for one, _ in tried[-counted:])
    assert found == pytest.approx((last[0] + last[1]) / 2 if counted == 2 else last[counted // 2])
    assert all(took >= 0.5 for _, took in tried[-counted:]) and all(took < 0.5 for _, took in tried[1:-counted])
    assert sum(took for _, took in tried) < 4.5


@pytest.mark.parametrize("step_s", [0.005, 0.05, 0.14])
def test_a_rehearsal_in_which_a_stage_runs_ahead_for_long_ends_all_the_same(monkeypatch, step_s):
    """The first stage is four times as fast, and the queue between them is endless."""
    tried = []

    @contextmanager
    def runner(*_):
        yield measure

    def measure(spec):
        tried.append(step_s * spec.num_steps)
        ends = [[one * (k + 1) for k in range(spec.num_steps)] for one in (step_s / 4, step_s)]
        return [StageTimings(0.0, each, [], 0.0) for each in ends]

    monkeypatch.setattr(dry_run, "_runner", runner)
    found, _ = dry_run.rehearse(run(), placed(2, 2), 2, ROOT)
    assert found == pytest.approx(step_s) and sum(tried) < 6.0


def crowd_that_runs_ahead(step_s, tried):
    """Two stages on one core, with room for four messages: until the first is five steps ahead, the last one's steps
    take twice as long, and half as long when the first has ended."""

    def measure(spec):
        tried.append(spec)
        first = [step_s * (k + 1) for k in range(spec.num_steps)]
        last: list[float] = [0.0]
        for k in range(spec.num_steps):
            last.append(last[-1] + step_s * (2 if k < 5 else 1 if last[-1] < first[-1] else 0.5))
        return [StageTimings(0.0, first, [], 0.0), StageTimings(0.0, last[1:], [last[-1] + 0.1] * spec.num_evals, 0.0)]

    return measure


@pytest.mark.parametrize("step_s", [0.005, 0.05, 0.15])
def test_stages_that_share_cores_count_between_running_ahead_and_the_first_ones_end(monkeypatch, step_s):
    tried = []

    @contextmanager
    def runner(*_):
        yield crowd_that_runs_ahead(step_s, tried)

    monkeypatch.setattr(dry_run, "_runner", runner)
    found, _ = dry_run.rehearse(run(), placed(2, 2), 1, ROOT)
    assert found == pytest.approx(step_s) and tried[1] == DryRunSpec(16, steady=6)
    assert sum(spec.num_steps * step_s for spec in tried) < 4.5


def test_a_run_is_predicted_by_what_stages_that_share_cores_do_once_queues_are_full():
    tried = []
    found = dry_run._pace(crowd_that_runs_ahead(0.15, tried), run(), placed(2, 2), 1)
    assert found.step_s == pytest.approx(0.15) and tried[1] == DryRunSpec(16, steady=6)


@pytest.mark.parametrize(
    ("sections", "stages", "room", "ahead"),
    [
        ({}, 2, 99, 5), ({}, 4, 99, 15), ({}, 4, 20, 10), ({}, 4, -3, 0), ({}, 1, 99, 0),
        ({"transport": {"depth": 1}}, 4, 99, 6), ({"transport": {"depth": 900}}, 2, 99, 9),
        ({"train": {"microbatches": 2}, "rule": {"name": "pred"}}, 2, 99, 3),
        ({"rule": {"name": "dfa"}}, 4, 99, 0),
    ],
    ids=str,
)  # fmt: skip
def test_how_far_stages_run_ahead(sections, stages, room, ahead):
    assert steps_ahead(run(**sections), stages, room) == ahead
