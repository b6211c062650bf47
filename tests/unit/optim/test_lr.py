import pytest

from pipeline.errors import ConfigError
from pipeline.optim.lr import LrSchedule


def test_rate_falls_at_the_milestones():
    lr = LrSchedule(base=8e-4, milestones=(2, 4), gamma=0.25)
    assert [lr.factor(e) for e in range(6)] == [1.0, 1.0, 0.25, 0.25, 0.0625, 0.0625]
    assert lr.at(0) == 8e-4 and lr.at(5) == 8e-4 * 0.0625


def test_constant_without_milestones():
    assert LrSchedule(base=0.1).at(10**6) == 0.1


@pytest.mark.parametrize("milestones", [(0, 5), (5, 5), (6, 5)])
def test_milestones_that_do_not_rise(milestones):
    with pytest.raises(ConfigError, match=r"optimizer.milestones = \[\d, 5\], expected: rising, from 1 on"):
        LrSchedule(0.1, milestones)


@pytest.mark.parametrize("gamma", [0.0, -0.5, float("inf"), float("nan")])
def test_gamma_that_is_no_factor(gamma):
    with pytest.raises(ConfigError, match=r"optimizer.gamma = .*, expected: above 0 and finite"):
        LrSchedule(0.1, (1,), gamma)
