import pytest
from tests.support import resumes, runs

from pipeline.config import Config
from pipeline.errors import ConfigError
from workers.comparison.arms import arms_of
from workers.placement import Host

HOST = Host(4, 0)


def arms(against, changes=None, host=HOST):
    config = Config.from_dict(runs.merged(resumes.TINY, changes or {}))
    return {arm.name: arm.config for arm in arms_of(config, against, host, ".")}


PROCESSES = {"transport": {"name": "shared_memory"}, "run": {"stages": 2, "threads": 0}, "model": {"norm": "none"}}


def test_every_arm_has_as_many_threads():
    found = arms(["backprop", "gpipe"], PROCESSES)
    assert list(found) == ["parallel", "backprop", "gpipe"]
    assert [(c.run.stages, c.run.threads, c.schedule.mode) for c in found.values()] == [
        (2, 2, "parallel"), (1, 4, "backprop"), (2, 2, "gpipe"),
    ]  # fmt: skip


def test_one_process_has_no_more_threads_than_cores_where_stages_are_more():
    found = arms(["backprop"], {**PROCESSES, "run": {"stages": 4, "threads": 0}}, Host(2, 0))
    assert (found["parallel"].run.stages, found["parallel"].run.threads) == (4, 1)
    assert (found["backprop"].run.stages, found["backprop"].run.threads) == (1, 2)
    found = arms(["backprop"], {"run": {"stages": 1, "threads": 5}}, Host(2, 0))
    assert found["parallel"].run.threads == found["backprop"].run.threads == 5


def test_stages_are_those_of_the_first_arm_that_has_some():
    found = arms(["parallel", "gpipe"], {**PROCESSES, "schedule": {"mode": "backprop"}})
    assert [(name, c.run.stages, c.run.threads) for name, c in found.items()] == [
        ("backprop", 1, 4), ("parallel", 2, 2), ("gpipe", 2, 2),
    ]  # fmt: skip


def test_replicas_count_and_one_process_has_their_threads():
    replicas = {
        "run": {"stages": 2, "replicas": [1, 2], "threads": 1}, "train": {"microbatches": 2}, "rule": {"name": "pred"},
        "transport": {"name": "shared_memory"}, "model": {"norm": "none"},
    }  # fmt: skip
    found = arms(["backprop"], replicas)
    assert found["parallel"].run.replicas == [1, 2] and found["parallel"].run.threads == 1
    assert (found["backprop"].run.replicas, found["backprop"].run.threads) == (1, 3)


def test_stages_that_take_turns_in_one_process_are_one():
    found = arms(["backprop"], {"run": {"stages": 3, "threads": 1}})
    assert found["backprop"].run.threads == found["parallel"].run.threads == 1


@pytest.mark.parametrize(
    ("against", "changes", "text"),
    [
        (["back"], {}, "unknown mode .given: schedule.mode 'back', expected: parallel, .*Did you mean 'backprop'"),
        (["parallel"], {}, "a mode is compared with itself .given: parallel against parallel; expected: parallel once"),
        (["gpipe", "gpipe"], {}, "expected: gpipe once"),
        ([], {}, "there is nothing to compare with"),
        (["backprop"], {"chaos": {"compute": "sleep", "compute_s": 0.001}}, "emulated compute learns nothing"),
        (["sequential"], {"rule": {"name": "dfa"}}, "the arm sequential cannot run: .*sequential mode trains blocks"),
        (["backprop"], {"rule": {"name": "predd"}}, "unknown rule"),
    ],
)
def test_what_is_refused_before_anything_runs(against, changes, text):
    with pytest.raises(ConfigError, match=text):
        arms(against, changes)
