"""Networks that draw samples: evaluated by several passes, the same on every placement."""

import pytest
from tests.support.runs import run

pytestmark = pytest.mark.distributed
NET = {"model": {"name": "mlp", "depth": 3, "width": 24, "activation": "bernoulli", "norm": "none"}}
RULES = [
    "linear_decoder", "pred", "dfa", "straight_through", "sigmoid_adjusted", "slope_annealing", "reinforce",
]  # fmt: skip
SEQUENTIAL = {
    "schedule": {"mode": "sequential", "patience": 1}, "rule": {"name": "pred"},
    "dataset": {"name": "digits", "crop_padding": 0},
}  # fmt: skip


def outcome(out, changes, passes=4, **train):
    table = run(out, {**NET, "train": {"eval_passes": passes, **train}, **changes})
    tested = [b["test_accuracy"] for b in table["blocks"]]
    return table["weights_sha256"], table["test"], tested


@pytest.mark.parametrize(
    "changes",
    [{"rule": {"name": name}} for name in RULES] + [SEQUENTIAL],
    ids=[*RULES, "sequential"],
)
def test_samples_do_not_depend_on_the_placement(tmp_path, changes):
    expected = outcome(tmp_path / "one", changes)
    for stages in (2, "blocks"):
        placed = {**changes, "run": {"stages": stages}, "transport": {"name": "shared_memory"}}
        assert outcome(tmp_path / str(stages), placed) == expected


def test_evaluation_draws_the_same_whenever_it_is_asked_and_changes_no_training(tmp_path):
    changes = {"rule": {"name": "linear_decoder"}}
    often = outcome(tmp_path / "often", changes)
    assert outcome(tmp_path / "once", changes, eval_every=2) == often
    weights, test, _ = outcome(tmp_path / "single", changes, passes=1)
    assert weights == often[0] and test != often[1]
