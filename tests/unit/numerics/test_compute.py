import pytest
import torch

from pipeline.numerics.compute import compute_as, set_compute

CPU = torch.device("cpu")


CUDNN = ("enabled", "benchmark", "deterministic", "allow_tf32")


def settings():
    return torch.get_num_threads(), torch.get_float32_matmul_precision()


def cudnn():
    return {name: getattr(torch.backends.cudnn, name) for name in CUDNN}


@pytest.fixture(autouse=True)
def _put_back():
    before, flags = settings(), cudnn()
    yield
    for name, value in flags.items():
        setattr(torch.backends.cudnn, name, value)
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])


def test_a_process_computes_as_it_is_told():
    set_compute(2, "medium", CPU)
    assert settings() == (2, "medium")


def test_the_callers_settings_come_back_whatever_happens():
    set_compute(1, "highest", CPU)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    flags = cudnn()
    with pytest.raises(ZeroDivisionError), compute_as(2, "high", CPU):
        assert settings() == (2, "high")
        assert cudnn() == {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": True}
        raise ZeroDivisionError
    assert cudnn() == flags
    assert settings() == (1, "highest")


@pytest.mark.parametrize(("name", "chosen"), [("cuda", []), ("cuda:1", [torch.device("cuda", 1)])])
def test_a_gpu_without_a_number_is_the_current_one(name, chosen, monkeypatch):
    """``torch.cuda.set_device`` refuses a device without an index."""
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    set_compute(1, "highest", torch.device(name))
    assert calls == chosen
