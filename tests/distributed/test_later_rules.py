"""The runtime carries kinds of rules that no built-in rule has yet: two learnings per batch, and settling."""

import pytest
from tests.support.runs import run, sha

pytestmark = pytest.mark.distributed
PLAIN = {"model": {"name": "mlp", "depth": 3, "width": 16, "norm": "none", "activation": "tanh"}}


@pytest.mark.parametrize("in_flight", [1, 3])
def test_synthetic_gradients_are_the_same_on_any_partition(tmp_path, in_flight):
    changes = {"rule": {"name": "tests.support.synthetic_gradients"}, "train": {"in_flight": in_flight}, **PLAIN}
    first = sha(tmp_path / "inline", changes)
    for stages in (2, 3, "blocks"):
        placed = {**changes, "run": {"stages": stages}, "transport": {"name": "shared_memory"}}
        assert sha(tmp_path / str(stages), placed) == first


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_settling_is_the_same_on_any_partition(tmp_path, transport):
    changes = {"rule": {"name": "tests.support.settling_rule"}, **PLAIN}
    table = run(tmp_path / "inline", changes)
    assert table["test"]["accuracy"] is not None
    for stages in (2, "blocks"):
        placed = {**changes, "run": {"stages": stages}, "transport": {"name": transport}}
        again = run(tmp_path / str(stages), placed)
        assert again["weights_sha256"] == table["weights_sha256"]
        assert again["test"] == table["test"]


def test_settling_reaches_beyond_the_neighbour(tmp_path):
    """Five rounds let the top block's state depend on the bottom block's: fewer rounds, other weights."""
    from tests.support import settling_rule

    changes = {"rule": {"name": "tests.support.settling_rule"}, **PLAIN}
    five = sha(tmp_path / "five", changes)
    settling_rule.Settles.num_rounds = 1
    try:
        assert sha(tmp_path / "one", changes) != five
    finally:
        settling_rule.Settles.num_rounds = 5
