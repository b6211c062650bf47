"""What ``[measure]`` asks for and cannot have, found before a run starts."""

import logging

from pipeline.config import MeasureConfig
from pipeline.data.dataset import DataSpec
from pipeline.data.task import Labels
from pipeline.errors import ConfigError

__all__ = ["check_measurable"]

logger = logging.getLogger(__name__)


def check_measurable(measure: MeasureConfig, data: DataSpec, num_blocks: int) -> None:
    """Refuses measurements that this network or this data does not allow; measuring comes after the run.

    Raises:
        ConfigError: labels that are no classes of samples, but for angles and updates of samples with numbers; a map
            of data that is not of two numbers and two classes, or t-SNE of a block that is not there.
    """
    if measure.every == 0:
        if measure.maps or measure.tsne:
            logger.warning("no map and no t-SNE is made of a run that is not measured (measure.every: 0). "
                           "Set it to 1 or more.")  # fmt: skip
        return
    if data.task.labels is not Labels.CLASS:
        _check_measured_numbers(measure, data)
    if measure.maps and (data.input_shape != (2,) or data.task.num_outputs > 2):
        raise ConfigError(
            f"no map can be drawn (given: measure.maps with samples of shape {data.input_shape} and "
            f"{data.task.num_outputs} outputs, expected: shape (2,) and 1 or 2 outputs, as of signed_xor). "
            "Set measure.maps to false."
        )
    missing = [k for k in measure.tsne if not 0 <= k < num_blocks]
    if missing:
        raise ConfigError(
            f"no such block (given: measure.tsne has {missing[0]}, expected: 0 to {num_blocks - 1}). Correct it."
        )


def _check_measured_numbers(measure: MeasureConfig, data: DataSpec) -> None:
    """Refuses to measure what is neither a class nor numbers for each sample, and of numbers what asks for classes."""
    if data.task.labels is not Labels.NUMBERS or data.chunking is not None:
        what = "chunks of sequences" if data.chunking is not None else data.task.labels.value
        raise ConfigError(
            f"only samples with one class or numbers each are measured (given: measure.every = {measure.every} with "
            f"labels that are {what}, expected: 0). Set measure.every to 0."
        )
    asked = [name for name in ("accuracies", "maps", "tsne") if getattr(measure, name)]
    if asked:
        given = ", ".join(f"measure.{name}" for name in asked)
        raise ConfigError(
            f"of samples with numbers only angles and updates are measured (given: {given}, expected: none of them). "
            "Set accuracies and maps to false, and tsne to []."
        )
