from pathlib import Path

import pytest
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import resolve

BASE = merged(SMALL, {"rule": {"name": "pred"}, "model": {"norm": "none"}})


def found(**changes):
    return resolve(Config.from_dict(merged(BASE, changes)), Path("."))


@pytest.mark.parametrize(
    ("replicas", "mode", "given", "microbatches"),
    [
        (1, "parallel", 0, 1), ([1, 1], "parallel", 0, 1), (2, "parallel", 0, 2), ([1, 2, 1], "parallel", 0, 2),
        ([2, 3], "parallel", 0, 6), (2, "parallel", 8, 8), (2, "gpipe", 0, 4), (3, "gpipe", 0, 3), (4, "1f1b", 0, 4),
        ("auto", "parallel", 6, 6), ("auto", "gpipe", 0, 4),
    ],
)  # fmt: skip
def test_micro_batches_that_are_dealt(replicas, mode, given, microbatches):
    resolved = found(run={"replicas": replicas}, schedule={"mode": mode}, train={"microbatches": given})
    assert resolved.batching.microbatches == microbatches
    if replicas not in (1, [1, 1], "auto"):  # they are part of the result, and so of the config that repeats it
        assert resolved.config.train.microbatches == microbatches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": {"replicas": 2}, "schedule": {"mode": "backprop"}},
         "the mode backprop is one process, and has no replicas (given: run.replicas = 2, expected: 1). Leave it out, "
         "or choose another mode, e.g. gpipe."),
        ({"run": {"replicas": [1, 2]}, "schedule": {"mode": "sequential"}},
         "the mode sequential trains one block at a time, on outputs that one process keeps, and has no replicas "
         "(given: run.replicas = [1, 2], expected: 1). Leave it out, or choose another mode."),
        ({"run": {"replicas": 2}, "rule": {"name": "dfa"}, "train": {"in_flight": 2}},
         "replicas are dealt the parts of one batch, and late feedback counts whole batches (given: run.replicas = 2 "
         "with train.in_flight = 2, expected: one batch in flight). Change one of them."),
        ({"run": {"replicas": 2}, "schedule": {"mode": "pipedream"}},
         "replicas are dealt the parts of one batch, and late feedback counts whole batches (given: run.replicas = 2 "
         "with the mode pipedream, expected: one batch in flight). Change one of them."),
        ({"run": {"replicas": "auto"}, "rule": {"name": "predsim"}, "train": {"microbatches": 4}},
         "replicas are dealt the parts of a batch, and the rule predsim learns from a batch as a whole (given: "
         "run.replicas = \"auto\", expected: 1). Leave it out, or choose another rule, e.g. pred."),
        ({"run": {"replicas": 2}, "rule": {"name": "reinforce", "adjusted": True},
          "model": {"activation": "bernoulli", "dropout": 0.0}},
         "the rule reinforce, with these options, keeps values that every micro-batch changes in turn, and each "
         "replica sees its own ones only (given: run.replicas = 2, expected: 1). Change the options, or leave it out."),
        ({"run": {"replicas": "auto"}},
         "replicas are dealt micro-batches, and there is one (given: run.replicas = \"auto\" with train.microbatches = "
         "1, expected: at least 2). Set train.microbatches to the most replicas that a stage may have: it is part of "
         "the result, and the number of replicas is not."),
        ({"run": {"replicas": 3}, "train": {"microbatches": 4}},
         "the micro-batches of a step cannot be dealt to the replicas evenly (given: run.replicas = 3 with 4 "
         "micro-batches, expected: a multiple of 3). Change train.microbatches, or the number of replicas."),
        ({"run": {"replicas": [2, 4]}, "train": {"batch_size": 3}},
         "cannot cut a batch of 3 into 4 micro-batches (train.microbatches: 4, expected: at most 3). Lower it."),
        ({"run": {"replicas": 2}, "dataset": {"name": "noise", "num_train": 1, "num_test": 3}},
         "the micro-batches of a step cannot be dealt to the replicas evenly (given: run.replicas = 2 with 1 "
         "micro-batches, expected: a multiple of 2). Change train.microbatches, or the number of replicas."),
    ],
)  # fmt: skip
def test_what_replicas_cannot_do_is_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        found(**changes)
    assert str(caught.value) == message


def test_halting_notes_the_first_loss_and_is_refused():
    with pytest.raises(ConfigError, match="the rule lra_fdbk, with these options, keeps values that every micro-batch"):
        found(run={"replicas": 2}, rule={"name": "lra_fdbk", "halt": 0.5},
              model={"activation": "tanh", "dropout": 0.0})  # fmt: skip
