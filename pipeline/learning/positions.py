"""What a decoder reads of a block's output: all of it, or the features at each position."""

from pipeline.data.task import Task

__all__ = ["features_of"]


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
