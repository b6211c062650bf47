"""Several batches in flight: how much is held, and what comes of it if no weight ever moves."""

import pytest
import torch
from tests.support.runs import run

from pipeline.engine.stage import Stage

pytestmark = pytest.mark.distributed
PLAIN = {"norm": "none", "dropout": 0.0, "activation": "tanh"}
CASES = {
    "backprop": {}, "fa": {}, "brsf": {}, "dfa": {}, "glob_sim": {}, "lra_fdbk": PLAIN,
    "lra_diff": {**PLAIN, "boundary": "half"}, "dtp": PLAIN, "ifa": PLAIN,
    "straight_through": {**PLAIN, "activation": "bernoulli"}, "reinforce": {**PLAIN, "activation": "bernoulli"},
}  # fmt: skip


class Watched:
    """What the stages of a run held at their steps, and the gradients that each block stepped by, in their order."""

    def __init__(self, monkeypatch):
        self.held, self.left, self.gradients = [], [], {}
        step, evaluate = Stage.step, Stage.begin_evaluation

        def stepped(stage, number):
            self.held.append(stage.in_flight.most)
            for block, rule in stage.rules.items():
                grads = [p.grad.clone() for p in rule.parameters() if p.grad is not None]
                if grads:
                    self.gradients.setdefault(block, []).append(grads)
            step(stage, number)

        def drained(stage):
            self.left.append(len(stage.in_flight))
            return evaluate(stage)

        monkeypatch.setattr(Stage, "step", stepped)
        monkeypatch.setattr(Stage, "begin_evaluation", drained)


@pytest.mark.parametrize("rule", CASES)
def test_p5_p6_what_is_held_is_bounded_and_without_steps_late_gradients_are_the_undelayed_ones(
    tmp_path, monkeypatch, rule
):
    """With a rate of 0 all versions of the weights are one: the same gradients in the same order, only later."""
    found = {}
    for in_flight in (1, 3):
        with monkeypatch.context() as patch:
            watched = found[in_flight] = Watched(patch)
            run(tmp_path / str(in_flight), {
                "rule": {"name": rule}, "model": CASES[rule], "run": {"stages": 2},
                "optimizer": {"name": "sgd", "lr": 0.0, "milestones": []},
                "train": {"in_flight": in_flight, "epochs": 1, "batch_size": 200},
            })  # fmt: skip
        assert max(watched.held) == in_flight and set(watched.left) == {0}
    late, undelayed = found[3].gradients, found[1].gradients
    assert late.keys() == undelayed.keys() == set(range(5))
    for block, steps in undelayed.items():
        assert len(late[block]) == len(steps) == 8
        for given, wanted in zip(late[block], steps, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(given, wanted, strict=True)), block
        assert not torch.equal(steps[0][0], steps[1][0]), "one batch is not like the next"
