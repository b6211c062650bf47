"""Replicas of a stage on different hosts."""

import json

import pytest
from tests.distributed.test_hosts import REASON, SMALL, files_of, reference
from tests.support.host_runs import ranks_on, result_of
from tests.support.hosts import hosts

pytestmark = [pytest.mark.distributed, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.mark.parametrize("rule", ["pred", pytest.param("dfa", marks=pytest.mark.full)])
def test_the_same_weights_where_a_stage_lies_on_two_hosts(tmp_path, rule):
    """Two ranks on each; the middle stage has one of them on either host."""
    arguments = [f"rule.name={rule}", "train.microbatches=2"]
    with hosts(2) as found:
        said = ranks_on(found, [2, 2], tmp_path, "--quiet", *SMALL, *arguments, "run.replicas=[1, 2, 1]")
        assert [code for code, _ in said] == [0] * 4, said
        result = result_of(found[0])
        assert result["weights_sha256"] == reference(tmp_path, *arguments)
        assert (result["transport"], result["replicas"]) == ("mixed", [1, 2, 1])
        assert files_of(found[1]) == set()


def test_replicas_of_a_stage_side_by_side_on_another_host(tmp_path):
    """Each with a folder of its own there: for its part of the trace, and for the state that it goes on from."""
    arguments = ["rule.name=pred", "train.microbatches=2"]
    with hosts(2) as found:
        begun = ["--trace", *SMALL, *arguments, "run.replicas=[1, 2]", "train.epochs=1"]
        assert {c for c, _ in ranks_on(found, [1, 2], tmp_path, "--quiet", *begun)} == {0}
        trace = json.loads((found[0].disk / "run" / "trace.json").read_text(encoding="utf8"))
        assert trace["otherData"]["stages_missing"] == []
        more = ["--resume", found[0].disk / "run", "--allow-changes", "train.epochs=2"]
        said = ranks_on(found, [1, 2], tmp_path, "--quiet", *more, port=29501)
        assert [code for code, _ in said] == [0] * 3, said
        assert result_of(found[0])["weights_sha256"] == reference(tmp_path, *arguments)
        assert files_of(found[1]) == set()
