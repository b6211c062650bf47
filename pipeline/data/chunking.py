"""Sequences cut into chunks: which chunk is in which batch, and which of them are the first of their sequence."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chunking"]


@dataclass(frozen=True)
class Chunking:
    """Each sample is a chunk, and each batch has the next chunk of every sequence of the one before it.

    Row r of a batch goes on where row r of the batch before it has ended, so that a recurrent layer can carry its
    state. Chunks lie in the data set in the order of their sequence.
    """

    num_chunks: int
    """Of each sequence. 0: all chunks are one sequence, cut into as many rows as a batch has, as long as each other or
    one chunk longer: those come first."""

    def is_start(self, index: int) -> bool:
        """The chunks of batch ``index`` of an epoch are the first of their sequence, or of their row."""
        return index % self.num_chunks == 0 if self.num_chunks else index == 0

    def is_end(self, index: int) -> bool:
        """The chunks of batch ``index`` of an epoch are the last of their sequence; one long sequence has no end."""
        return self.num_chunks > 0 and (index + 1) % self.num_chunks == 0

    def num_sequences(self, num_samples: int) -> int:
        """Sequences that so many chunks are."""
        return num_samples // self.num_chunks if self.num_chunks else 1

    def order(self, sequences: Tensor, num_samples: int, batch_size: int) -> Tensor:
        """Indices of an epoch's chunks in the order of its batches.

        Args:
            sequences: the order of the sequences, (sequences,) int64.
            num_samples: chunks in all.
            batch_size: rows of a batch; divides the number of sequences, where there are several.

        Returns:
            (num_samples,) int64.
        """
        if self.num_chunks:
            chunks = torch.arange(self.num_chunks).view(1, -1, 1)
            rows = sequences.view(-1, 1, min(batch_size, len(sequences)))  # (groups, 1, rows)
            return (rows * self.num_chunks + chunks).flatten()
        whole, longer = divmod(num_samples, batch_size)
        rows = torch.arange(batch_size)
        starts = rows * whole + rows.clamp(max=longer)
        chunks = starts.unsqueeze(0) + torch.arange(whole).unsqueeze(1)  # (chunks, rows)
        return torch.cat([chunks.flatten(), starts[:longer] + whole])
