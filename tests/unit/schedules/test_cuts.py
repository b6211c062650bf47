import pytest

from pipeline.schedules.cuts import Cuts


@pytest.mark.parametrize(
    ("cuts", "starts", "inside"),
    [
        (Cuts(5), [], []),
        (Cuts(5, every_steps=1), [1, 2, 3], [[1, 2, 3, 4]] * 4),
        (Cuts(5, every_steps=3), [3], [[3], [1, 4], [2], [3]]),
        (Cuts(5, every_steps=5), [1, 2, 3], [[]] * 4),
        (Cuts(5, every_epochs=2), [2], []),
        (Cuts(5, every_steps=7, every_epochs=3), [3], [[], [2], [4], []]),
    ],
)
def test_the_cuts_of_four_epochs(cuts, starts, inside):
    assert [epoch for epoch in range(4) if cuts.starts(epoch)] == starts
    assert [sorted(cuts.inside(epoch)) for epoch in range(4)] == (inside or [[]] * 4)
