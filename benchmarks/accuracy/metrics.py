"""Metrics of one stored run. Errors are those of the output block, in percent of the test set."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from benchmarks.accuracy.cell import Metric

__all__ = [
    "after", "after_steps", "angle", "angle_late", "angle_most", "best", "best_epoch", "best_within", "block_angle",
    "depth", "depth_rise", "epochs_to", "filter_variation", "last", "last_in_training", "loss_after", "neighbours",
    "phase", "test_loss", "train_loss",
]  # fmt: skip


def _errors(run: Mapping[str, Any]) -> Sequence[float]:
    """Errors after each epoch in which the output block was evaluated; of a run with a validation set the one error of
    the weights that it selected."""
    found: Sequence[float] = run["errors"]
    return found


def _has_course(run: Mapping[str, Any]) -> bool:
    """There are figures of every epoch, and not of the weights alone that a validation set selected; older runs, which
    do not say so, had no such set."""
    return not run.get("selected")


def best(run: Mapping[str, Any]) -> float | None:
    """The least error after any epoch: best on *test*, as the sources report it."""
    return min(_errors(run), default=None)


def last(run: Mapping[str, Any]) -> float | None:
    """The error after the last epoch."""
    return _errors(run)[-1] if _errors(run) else None


def last_in_training(run: Mapping[str, Any]) -> float | None:
    """The error on the training samples of the last epoch, before each step; None of older runs, which lack it."""
    found: Sequence[float | None] = run.get("train_errors") or ()
    return found[-1] if found else None


def after(epoch: int) -> Metric:
    """The error after so many epochs."""

    def metric(run: Mapping[str, Any]) -> float | None:
        return _errors(run)[epoch - 1] if len(_errors(run)) >= epoch and _has_course(run) else None

    return metric


def epochs_to(error: float) -> Metric:
    """The number of epochs after which the error is for the first time at most so large; None where it never is."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found = [k + 1 for k, value in enumerate(_errors(run)) if value <= error]
        return float(found[0]) if found and _has_course(run) else None

    return metric


def after_steps(count: int) -> Metric:
    """The error after so many optimizer steps."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: float | None = run.get("step_errors", {}).get(str(count))
        return found

    return metric


def best_within(epochs: int) -> Metric:
    """The least error after any of the first epochs."""

    def metric(run: Mapping[str, Any]) -> float | None:
        return min(_errors(run)[:epochs]) if len(_errors(run)) >= epochs and _has_course(run) else None

    return metric


def best_epoch(run: Mapping[str, Any]) -> float | None:
    """The epoch, from 1, after which the error was least."""
    found = _errors(run)
    return float(found.index(min(found)) + 1) if found and _has_course(run) else None


def phase(name: str, split: str) -> Metric:
    """Of a run in two phases, ``first`` or ``second``, the error on ``train``, ``validation`` or ``test``; or of the
    second the ``epoch``, from 1, that was best on the validation set. None of other runs."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: float | None = run.get("phases", {}).get(name, {}).get(split)
        return found

    return metric


def loss_after(epoch: int) -> Metric:
    """The output loss on the test set after so many epochs."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: Sequence[float | None] = run["test_losses"]
        return found[epoch - 1] if len(found) >= epoch and _has_course(run) else None

    return metric


def test_loss(run: Mapping[str, Any]) -> float | None:
    """The output loss on the test set after the last epoch."""
    found: Sequence[float | None] = run["test_losses"]
    return found[-1] if found else None


def train_loss(run: Mapping[str, Any]) -> float | None:
    """The output loss over the last epoch, before each step."""
    found: Sequence[float | None] = run["train_losses"]
    return found[-1] if found else None


def depth(epoch: int) -> Metric:
    """Depth of credit: the mean number of blocks updated per sample in an epoch, from 1; -1 is the last."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found = _depths(run)
        return found[epoch - 1 if epoch > 0 else epoch] if len(found) >= abs(epoch) else None

    return metric


def depth_rise(run: Mapping[str, Any]) -> float | None:
    """The largest rise of the depth of credit between epochs, from the second on; below 0 where it always falls."""
    found = _depths(run)[1:]
    return max((after - before for before, after in zip(found, found[1:], strict=False)), default=None)


def _depths(run: Mapping[str, Any]) -> list[float]:
    return [sum(credits) for credits in run["credit"] or ()]


def angle(epoch: int) -> Metric:
    """Between the rule's gradient of all blocks and backpropagation's, in degrees, after so many epochs."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: list[float | None] = [row["all"] for row in run["angles"] or () if row["epoch"] == epoch]
        return found[0] if found else None

    return metric


def block_angle(block: int, epoch: int) -> Metric:
    """The same of one block's gradient."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: list[float | None] = [row["blocks"][block] for row in run["angles"] or () if row["epoch"] == epoch]
        return found[0] if found else None

    return metric


def angle_late(since: int) -> Metric:
    """The same, a mean over the measurements after so many epochs and more; None of a run that ended before."""

    def metric(run: Mapping[str, Any]) -> float | None:
        rows = [row["all"] for row in run["angles"] or () if row["epoch"] >= since]
        found = [value for value in rows if value is not None]
        return sum(found) / len(found) if found else None

    return metric


def angle_most(since: int) -> Metric:
    """The largest angle of any one block's gradients in the measurements after so many epochs and more."""

    def metric(run: Mapping[str, Any]) -> float | None:
        rows = (row for row in run["angles"] or () if row["epoch"] >= since)
        return max((value for row in rows for value in row["blocks"] if value is not None), default=None)

    return metric


def neighbours(when: Literal["before", "after"], block: int) -> Metric:
    """Share of samples, in percent, whose class is that of most of their neighbours in a block's layout before or
    after training; None where it has no layout, as where it sends the same for all samples."""

    def metric(run: Mapping[str, Any]) -> float | None:
        epoch = 0 if when == "before" else run["epochs"]
        found = [row["blocks"][block] for row in run.get("neighbours") or () if row["epoch"] == epoch]
        return None if not found or found[0] is None else 100.0 * found[0]

    return metric


def filter_variation(when: Literal["before", "after"]) -> Metric:
    """Mean total variation of the linear filters of the last hidden layer, before or after training."""

    def metric(run: Mapping[str, Any]) -> float | None:
        found: float | None = run.get("filters", {}).get(when)
        return found

    return metric
