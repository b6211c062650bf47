import pytest

from pipeline.errors import ConfigError, TransportTimeout, WorkerFailed


def test_a_failed_worker_names_its_stage():
    error = WorkerFailed(2, 4, "it was killed")
    assert str(error) == "[stage 2/4] it was killed"
    assert (error.stage_index, error.num_stages, error.reason) == (2, 4, "it was killed")


@pytest.mark.parametrize(
    ("kind", "caught_as", "not_as"),
    [
        (ConfigError("x"), ValueError, RuntimeError),
        (TransportTimeout("x"), RuntimeError, WorkerFailed),
        (WorkerFailed(0, 1, "x"), RuntimeError, TransportTimeout),
    ],
)
def test_what_catches_them(kind, caught_as, not_as):
    assert isinstance(kind, caught_as)
    assert not isinstance(kind, not_as)
