import itertools
import random

import pytest

from pipeline.errors import ConfigError
from pipeline.planning import partition


def every_partition(num_blocks, num_stages):
    for cuts in itertools.combinations(range(1, num_blocks), num_stages - 1):
        ends = [0, *cuts, num_blocks]
        yield [range(a, b) for a, b in itertools.pairwise(ends)]


def stage_costs(costs, ranges):
    return [sum(costs[b] for b in r) for r in ranges]


def test_equals_the_best_of_all_partitions():
    draw = random.Random(0)
    for _ in range(60):
        costs = [draw.randrange(10) for _ in range(draw.randrange(1, 9))]
        num_stages = draw.randrange(1, len(costs) + 1)

        def value(ranges):
            stages = stage_costs(costs, ranges)
            return max(stages), sum(c * c for c in stages), [r.stop for r in ranges]

        assert partition.balanced(costs, num_stages) == min(every_partition(len(costs), num_stages), key=value)


def test_ties_go_to_the_most_even_then_to_the_earliest_cut():
    assert partition.balanced([10, 1, 1, 1, 1], 3) == [range(0, 1), range(1, 3), range(3, 5)]
    assert partition.balanced([1, 1, 1, 1, 1], 2) == [range(0, 2), range(2, 5)]


def test_one_stage_and_one_block_per_stage():
    assert partition.balanced([3.0, 1.0], 1) == [range(0, 2)]
    assert partition.balanced([3.0, 1.0], 2) == [range(0, 1), range(1, 2)]


def test_blocks_that_cost_nothing_leave_no_stage_empty():
    ranges = partition.balanced([0, 0, 5, 0], 3)
    assert [len(r) > 0 for r in ranges] == [True] * 3 and ranges[-1].stop == 4


def test_costs_in_seconds():
    assert partition.balanced([0.1, 0.2, 0.3, 0.6], 2) == [range(0, 3), range(3, 4)]


@pytest.mark.parametrize(
    ("num_stages", "text"),
    [
        (
            8,
            r"cannot split 6 blocks into 8 stages \(blocks: 6, num_stages: 8\). Lower num_stages to at most 6.",
        ),
        (0, r"cannot split 6 blocks into 0 stages \(blocks: 6, num_stages: 0\). Raise num_stages to at least 1."),
    ],
)
def test_impossible_numbers_of_stages(num_stages, text):
    with pytest.raises(ConfigError, match=text):
        partition.balanced([1] * 6, num_stages)


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_costs_that_are_none(cost):
    with pytest.raises(ConfigError, match=r"cannot weigh blocks by these costs \(given: \[1.0, .*finite, at least 0"):
        partition.balanced([1.0, cost], 2)


def test_explicit_sizes():
    assert partition.parse([2, 1, 1], 4) == [range(0, 2), range(2, 3), range(3, 4)]


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([2, 0, 2], r"a stage has no blocks \(given: \[2, 0, 2\]"),
        ([], r"a stage has no blocks \(given: \[\]"),
        ([2, 1], r"the stages do not cover the model \(given: \[2, 1\], 3 blocks; expected: 4\)"),
    ],
)
def test_explicit_sizes_that_fit_no_model(sizes, text):
    with pytest.raises(ConfigError, match=text):
        partition.parse(sizes, 4)
