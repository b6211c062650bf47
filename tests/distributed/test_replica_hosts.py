"""Replicas of a stage on different hosts."""

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
