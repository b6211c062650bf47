import pytest
import torch

from pipeline.numerics.compute import compute_as, set_compute

CPU = torch.device("cpu")


def settings():
    return torch.get_num_threads(), torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def _put_back():
    before = settings()
    yield
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])


def test_a_process_computes_as_it_is_told():
    set_compute(2, "medium", CPU)
    assert settings() == (2, "medium")


def test_the_callers_settings_come_back_whatever_happens():
    set_compute(1, "highest", CPU)
    with pytest.raises(ZeroDivisionError), compute_as(2, "high", CPU):
        assert settings() == (2, "high")
        raise ZeroDivisionError
    assert settings() == (1, "highest")
