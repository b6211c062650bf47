import pytest

from pipeline.errors import ConfigError, NonFiniteError, TransportTimeout, WorkerFailed


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


FOUND = {"block": 2, "epoch": 1, "step": 7, "since": 5, "what": "loss", "name": "", "value": "nan"}
TEXTS = {
    "loss": "the loss of block 2 is nan in step 7, epoch 1 (",
    "weight": "weight body.w of block 2 is nan after step 7, epoch 1, and has been since a step from 5",
    "test_loss": "the test loss of block 2 is nan after epoch 1 (",
    "validation_loss": "the validation loss of block 2 is nan after epoch 1 (",
    "batches": "block 2 had to leave out every batch of epoch 1, from step 5 to 7 (",
}


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("last_good", [None, "runs/a/snapshots/step-5"])
def test_numbers_that_are_not_finite_are_named(what, last_good):
    error = NonFiniteError({**FOUND, "what": what, "name": "body.w"}, last_good)
    where = f"last good snapshot: {last_good}" if last_good else "no snapshot was taken before it"
    assert TEXTS[what] in str(error) and f"; {where})" in str(error)
    assert error.row == {**FOUND, "what": what, "name": "body.w", "last_good": last_good}
    assert ("infinite numbers in the" in str(error)) == what.endswith("_loss")
    assert not isinstance(error, WorkerFailed)  # nothing died: to start again would end the same
