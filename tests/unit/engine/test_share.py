"""What a replica tells of a micro-batch, packed and unpacked, and that no message is longer than the longest."""

import pytest
import torch

from pipeline.engine.share import Share, longest_message
from pipeline.learning.exchanged import Exchanged, GradientShape
from pipeline.numerics.packed import packed_bytes

FLOAT, HALF = torch.float32, torch.bfloat16
BLOCKS = [
    Exchanged((GradientShape(FLOAT, 100, 3), GradientShape(HALF, 7, 1))), Exchanged((GradientShape(FLOAT, 33, 2),)),
]  # fmt: skip


def share(present=True, credit=None, answers=None):
    """Of one of two replicas, the one of the larger chunks."""
    chunks = [torch.arange(50, dtype=FLOAT), torch.ones(4, dtype=HALF), torch.zeros(17)]
    there = [[present, True, True], [True], [True, True]]
    return Share(chunks, there, [torch.tensor(0.5), None], [credit, None], answers)


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("credit", [None, torch.tensor(3.0, dtype=torch.float64)])
@pytest.mark.parametrize("answers", [None, torch.tensor(9)])
def test_what_is_packed_comes_out_again_and_is_never_longer_than_the_longest(present, credit, answers):
    given = share(present, credit, answers)
    packed = given.tensors(torch.device("cpu"))
    found = Share.of(packed, [3, 1, 2], 2)
    assert all(map(torch.equal, found.chunks, given.chunks)) and found.present == given.present
    assert (found.losses, found.credits, found.answers) == (given.losses, given.credits, given.answers)
    assert packed_bytes(packed) <= longest_message(BLOCKS, 2)


def test_the_longest_message_has_all_that_may_travel_along():
    chunks, losses_answers_credits, masks = 256 + 64 + 128, (2 + 1 + 2) * 64, 3 * 64
    assert longest_message(BLOCKS, 2) == chunks + losses_answers_credits + masks
    assert longest_message([], 2) == 0


def test_statistics_are_whole_whatever_the_number_of_replicas():
    block = Exchanged((GradientShape(FLOAT, 100, 1),), ((FLOAT, 200), (FLOAT, 200), (torch.int64, 1)))
    assert longest_message([block], 50) == longest_message([block], 1) == 2 * 832 + 64
