"""Whether what ``[measure]`` asks for can be measured on this network and this data."""

import logging

from pipeline.config import MeasureConfig
from pipeline.data.dataset import DataSpec
from pipeline.errors import ConfigError

__all__ = ["check_measurable"]

logger = logging.getLogger(__name__)


def check_measurable(measure: MeasureConfig, data: DataSpec, num_blocks: int) -> None:
    """Found before the run, for measuring comes after it.

    Raises:
        ConfigError: a map of data that is not of two numbers and two classes, or t-SNE of a block that is not there.
    """
    if measure.every == 0:
        if measure.maps or measure.tsne:
            logger.warning("no map and no t-SNE is made of a run that is not measured (measure.every: 0). "
                           "Set it to 1 or more.")  # fmt: skip
        return
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
