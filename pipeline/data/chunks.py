"""Batches of chunks, each the next of its sequence; a pure function of (seed, epoch, index) like all batches."""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.data.batches import Batches, epoch_order
from pipeline.data.chunking import Chunking
from pipeline.data.dataset import Dataset, DataSpec, Split
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.errors import ConfigError

__all__ = ["ChunkBatches", "chunked", "cut"]


class ChunkBatches(Batches):
    """Batches of a split whose samples are chunks.

    Training takes the sequences in another order in every epoch; evaluation takes them as they are.

    Args:
        split: chunks in the order of their sequences.
        dataset: says how its sequences are cut.
        options: see :class:`Batches`.
    """

    def __init__(self, split: Split, *, dataset: Dataset, **options: object) -> None:
        super().__init__(split, dataset=dataset, **options)  # type: ignore[arg-type]
        assert dataset.spec.chunking is not None, "asked for by a data set of chunks"
        self._chunking = dataset.spec.chunking

    def order(self, epoch: int) -> Tensor:
        """See :class:`Batches`."""
        count = self._chunking.num_sequences(self.num_samples)
        sequences = epoch_order(self._seed, epoch, count) if self._train else torch.arange(count)
        return self._chunking.order(sequences, self.num_samples, self._batch_size)


def chunked(spec: DataSpec, chunk: int, name: str) -> DataSpec:
    """The specification of a data set of sequences, each cut into chunks.

    Args:
        spec: of whole sequences; its task has their steps as positions.
        chunk: steps of a chunk; 0 leaves sequences whole.
        name: of the data set, for the error message.

    Raises:
        ConfigError: chunks of that length do not make up a sequence, or a sequence has one label.
    """
    if not chunk:
        return spec
    length = spec.input_shape[0]
    if length % chunk or spec.task.positions != (length,):
        what = "one label" if spec.task.positions != (length,) else "a label at each"
        raise ConfigError(
            f"sequences of {name} cannot be cut like this (given: dataset.chunk = {chunk} for {length} steps and "
            f"{what}, expected: a divisor of {length}, and a label at each step). Change dataset.chunk, or set it to "
            "0 to leave them whole."
        )
    task = spec.task
    cut_task = PositionClasses(task.num_outputs, (chunk,)) if isinstance(task, PositionClasses) else Regression(
        task.num_outputs, (chunk,)
    )  # fmt: skip
    count = length // chunk
    return replace(
        spec, input_shape=(chunk, *spec.input_shape[1:]), task=cut_task, num_train=spec.num_train * count,
        num_test=spec.num_test * count, chunking=Chunking(count),
    )  # fmt: skip


def cut(splits: tuple[Split, Split], chunk: int) -> tuple[Split, Split]:
    """Both splits with their sequences, (sequences, length, ...), cut into chunks; 0 leaves them whole."""
    if not chunk:
        return splits
    train, test = (
        Split(*(t.reshape(-1, chunk, *t.shape[2:]).contiguous() for t in (split.x, split.y))) for split in splits
    )
    return train, test
