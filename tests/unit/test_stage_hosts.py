"""Which stages share a host, and how it is named."""

import pytest

from pipeline.schedules.replicas import Replicas
from workers.host.identity import ProcessIdentity
from workers.hosts import StageHosts


def told(*kernels):
    return StageHosts.of([ProcessIdentity(kernel, 100 + n, n) for n, kernel in enumerate(kernels)])


A, B, SAME_NAME = "node0 boot-a pid:[1]", "node1 boot-b pid:[1]", "node0 boot-c pid:[1]"


@pytest.mark.parametrize(
    ("kernels", "index", "names", "several"),
    [
        ([A], (0,), ("node0",), False),
        ([A, A, A], (0, 0, 0), ("node0",), False),
        ([A, B, B], (0, 1, 1), ("node0", "node1"), True),
        ([A, B, A], (0, 1, 0), ("node0", "node1"), True),
        ([A, SAME_NAME], (0, 1), ("node0", "node0"), True),  # a name is no identity
    ],
)
def test_what_shares_a_kernel_shares_a_host(kernels, index, names, several):
    hosts = told(*kernels)
    assert (hosts.index, hosts.names, hosts.are_several) == (index, names, several)


def test_a_host_is_named_with_its_stages():
    hosts = told(A, B, B)
    assert [hosts.text(s) for s in range(3)] == [
        "host node0 (stage 0)", "host node1 (stages 1, 2)", "host node1 (stages 1, 2)",
    ]  # fmt: skip
    assert [hosts.first_beside(s) for s in range(3)] == [0, 1, 1]
    assert hosts.stages_beside(2) == (1, 2)


def test_a_host_of_replicas_is_named_with_stages_and_not_with_numbers_of_processes():
    hosts = told(A, A, B, B)
    assert [hosts.text(p, Replicas((1, 2, 1))) for p in (1, 2)] == [
        "host node0 (stage 0/3; stage 1/3, replica 0/2)", "host node1 (stage 1/3, replica 1/2; stage 2/3)",
    ]  # fmt: skip
    assert hosts.text(2, Replicas((4,))) == "host node1 (stage 0/1, replica 2/4; stage 0/1, replica 3/4)"
    assert hosts.text(2, Replicas.single(4)) == hosts.text(2) == "host node1 (stages 2, 3)"
