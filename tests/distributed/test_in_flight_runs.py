"""Several batches in flight: how much is held, and what comes of it if no weight ever moves."""

import pytest
import torch
from tests.support.products import rare
from tests.support.runs import SMALL, merged, run

from pipeline.engine.stage import Stage
from pipeline.errors import ConfigError

pytestmark = pytest.mark.distributed
PLAIN = {"norm": "none", "dropout": 0.0, "activation": "tanh"}
HALF = {**PLAIN, "boundary": "half"}
SAMPLING = {**PLAIN, "activation": "bernoulli"}
CODES = {"name": "am", "reduction": "features"}
GUESSED = {"name": "dni", "layers": 1, "width": 16}
SEQUENCES = merged(SMALL, {
    "dataset": {"name": "sine", "length": 12, "chunk": 4, "num_train": 24, "num_test": 6},
    "model": {"name": "rnn", "depth": 2, "width": 6},
})  # fmt: skip
"""Batches of 6 sequences in three chunks, whose states are carried on."""
LABELLED = merged(SMALL, {
    "dataset": {"name": "noise", "shape": [7, 3], "num_train": 24, "num_test": 6, "num_classes": 3},
    "model": {"name": "rnn", "width": 6, "reads": "last"},
})  # fmt: skip
CASES = {
    **{name: (SMALL, {"name": name}, {}) for name in ("backprop", "fa", "brsf", "dfa", "glob_sim")},
    **{name: (SMALL, {"name": name}, PLAIN) for name in ("lra_fdbk", "dtp", "ifa")},
    **{name: (SMALL, {"name": name}, SAMPLING) for name in ("straight_through", "reinforce")},
    "lra_diff": (SMALL, {"name": "lra_diff"}, HALF),
    "dni": (SMALL, GUESSED, {}), "dni-mixed": (SMALL, {**GUESSED, "mixing": 0.5}, {}),
    "am": (SMALL, CODES, {}), "am-half": (SMALL, CODES, HALF),
    "am-in-time": (LABELLED, {**CODES, "code_rate": 0.05}, {"boundary": "half"}),
    "lra_rnn": (SEQUENCES, {"name": "lra_rnn", "through_time": "fdbk"}, {}),
    "lra_rnn-diff": (SEQUENCES, {"name": "lra_rnn", "through_time": "diff"}, {}),
    "dni_rnn": (SEQUENCES, {"name": "dni_rnn"}, {}),
}
"""Base, rule and what the model is told."""
ONE_AT_A_TIME = {
    "am_mem": ({"name": "am_mem", "reduction": "features", "code_rate": 0.005}, HALF),
    "pc": ({"name": "pc", "rounds": 3}, PLAIN),
    "pc-fixed": ({"name": "pc", "inference": "fixed", "rounds": 3}, {}),
    "eqprop": ({"name": "eqprop", "free_rounds": 3, "nudged_rounds": 2}, PLAIN),
}


class Watched:
    """What the stages of a run held at their steps, and the gradients that each parameter was stepped by, in order."""

    def __init__(self, monkeypatch):
        self.held, self.left, self.gradients = [], [], {}
        step, evaluate = Stage.step, Stage.begin_evaluation

        def stepped(stage, number):
            self.held.append(stage.in_flight.most)
            for block, rule in stage.rules.items():
                for name, parameter in rule.named_parameters():
                    if parameter.grad is not None:
                        self.gradients.setdefault((block, name), []).append(parameter.grad.clone())
            step(stage, number)

        def drained(stage):
            self.left.append(len(stage.in_flight))
            return evaluate(stage)

        monkeypatch.setattr(Stage, "step", stepped)
        monkeypatch.setattr(Stage, "begin_evaluation", drained)


def changes(rule, model, in_flight, **optimizer):
    return {
        "rule": rule, "model": model, "run": {"stages": 2}, "train": {"in_flight": in_flight, "epochs": 1},
        **({"optimizer": optimizer} if optimizer else {}),
    }  # fmt: skip


@pytest.mark.parametrize("case", rare(CASES, but=CASES.keys() - {"dni-mixed", "am-half", "lra_rnn-diff"}))
def test_p5_p6_what_is_held_is_bounded_and_without_steps_late_gradients_are_the_undelayed_ones(
    tmp_path, monkeypatch, case
):
    """With a rate of 0 all versions of the weights are one: the same gradients in the same order, only later."""
    # Models of gradients and output weights that begin at 0 would stay there, and leave nothing to be compared.
    monkeypatch.setattr(torch.nn.init, "zeros_", torch.nn.init.normal_)
    base, rule, model = CASES[case]
    base = merged(base, {"train": {"batch_size": 200 if base is SMALL else 6}})
    found, table = {}, {}
    for in_flight in (1, 3):
        with monkeypatch.context() as patch:
            watched = found[in_flight] = Watched(patch)
            still = changes(rule, model, in_flight, name="sgd", lr=0.0, milestones=[])
            table = run(tmp_path / str(in_flight), still, base=base)
        assert max(watched.held) == in_flight and set(watched.left) == {0}
    late, undelayed, steps = found[3].gradients, found[1].gradients, table["steps"]
    assert steps >= 4 and late.keys() == undelayed.keys()
    for key, wanted in undelayed.items():
        assert len(late[key]) == len(wanted) <= steps, key
        assert all(torch.equal(a, b) for a, b in zip(late[key], wanted, strict=True)), key
    blocks = {block: [key for key in undelayed if key[0] == block] for block, _ in undelayed}
    assert set(blocks) == set(range(table["num_blocks"]))
    for keys in blocks.values():
        assert max(len(undelayed[key]) for key in keys) == steps
        assert any(not torch.equal(*undelayed[key][:2]) for key in keys), "one batch is not like the next"


@pytest.mark.parametrize("case", rare(ONE_AT_A_TIME, but=ONE_AT_A_TIME.keys() - {"pc-fixed"}))
def test_p5_rules_of_one_batch_at_a_time_hold_one_and_refuse_a_second(tmp_path, monkeypatch, case):
    rule, model = ONE_AT_A_TIME[case]
    with monkeypatch.context() as patch:
        watched = Watched(patch)
        run(tmp_path / "run", changes(rule, model, 1))
    assert set(watched.held) == {1} and set(watched.left) == {0}
    with pytest.raises(ConfigError, match=rf"the rule {rule['name']} supports at most 1 batches in flight \(given: tr"):
        run(tmp_path / "more", changes(rule, model, 2))
