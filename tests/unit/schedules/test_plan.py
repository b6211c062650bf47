import pickle

import pytest

from pipeline.schedules.plan import BlockMode, Plan

MODES = {"T": BlockMode.TRAIN, "F": BlockMode.FROZEN, ".": BlockMode.IDLE}


def plan(letters, source=0):
    return Plan(0, tuple(MODES[letter] for letter in letters), (0,) * len(letters), source=source)


@pytest.mark.parametrize(
    ("letters", "source", "top", "active"),
    [  # blocks on stages 0, 1, 2: 0 1 | 2 | 3 4
        ("TTTTT", 0, 4, "01|2|34"),
        ("T....", 0, 0, "0||"),
        ("FT...", 0, 1, "01||"),
        ("FT...", 1, 1, "1||"),
        ("FFT..", 0, 2, "01|2|"),
        ("FFT..", 1, 2, "1|2|"),
        ("FFFT.", 3, 3, "||3"),
        ("FFFFT", 3, 4, "||34"),
        ("FFFFT", 2, 4, "|2|34"),
    ],
)
def test_who_is_active(letters, source, top, active):
    found = plan(letters, source)
    assert found.top == top
    stages = (range(0, 2), range(2, 3), range(3, 5))
    assert "|".join("".join(map(str, found.active(blocks))) for blocks in stages) == active
    assert [bool(found.active(blocks)) for blocks in stages] == [bool(part) for part in active.split("|")]


def test_plans_travel_and_are_equal_by_value():
    assert pickle.loads(pickle.dumps(plan("FT.", 1))) == plan("FT.", 1) != plan("FT.", 0)
