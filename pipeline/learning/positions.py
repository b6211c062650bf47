"""What a decoder reads of a block's output: all of it, or the features at each position; and what it is none for."""

from math import prod

from torch import nn

from pipeline.data.task import Task
from pipeline.network.block import Block

__all__ = ["check_maps", "features_of"]

_OTHER_MAPS = (nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose3d)


def features_of(task: Task, shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    """Shape of what one row of the task's scores is decoded from.

    Args:
        task: for its positions.
        shape: of the block's output for one sample.
        what: what reads it, for the error message.

    Returns:
        ``shape`` itself where a sample has one label; else ``(features,)``, the same decoder for every position.

    Raises:
        ValueError: the task has positions, and ``shape`` is not those and one dimension of features.
    """
    count = len(task.positions)
    if count and (shape[:count] != task.positions or len(shape) != count + 1):
        expected = ", ".join(map(str, task.positions))
        raise ValueError(
            f"{what} reads features at each position (given: an output of shape {shape}, expected: ({expected}, "
            "features)). Let the block keep the positions in front, or use rule backprop."
        )
    return shape[count:]


def check_maps(block: Block, shape: tuple[int, ...], rule: str, most: int = 0) -> None:
    """Refuses a block of convolutions of one or three dimensions: its maps would be neither convolved nor pooled, but
    read as one vector, which may be of any length.

    Args:
        block: the block.
        shape: of its output, or of what is read of it at a position.
        rule: name of the rule, for the error message.
        most: features that may be read as a vector.

    Raises:
        ValueError: it is such a block, and has more features.
    """
    found = next((type(m).__name__ for m in block.body.modules() if isinstance(m, _OTHER_MAPS)), None)
    if found is not None and len(shape) in (2, 4) and prod(shape) > most:
        raise ValueError(
            f"{rule} knows maps of a height and a width (given: {found} and an output of shape {shape}, expected: "
            "(channels, height, width)). Take nn.Conv2d with a width of 1, or choose rule aux or backprop."
        )
