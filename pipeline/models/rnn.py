"""Recurrent network: blocks of one recurrent layer each, the whole recurrence inside its block, and a read-out."""

from functools import partial
from typing import Annotated, Literal

from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.network.block import Block, Blueprint
from pipeline.ranges import Count, Natural, Range

__all__ = ["build"]

Cell = Literal["elman", "lstm", "gru"]
_CELLS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def build(
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    cell: Cell = "elman",
    depth: Annotated[int, Range(1, 1000)] = 1,
    width: Count = 128,
    reads: Literal["each", "last"] = "each",
    vocabulary: Natural = 0,
    embedding: Count = 32,
) -> list[Blueprint]:
    """Blueprints of ``depth`` recurrent blocks and the read-out.

    A block runs over the whole sequence from a state of zeros and sends its units at every step. Gradients go back
    through all steps inside a block, whatever the rule; what reaches a block from outside is the rule's.

    Args:
        input_shape: ``(length, features)``, or ``(length,)`` of tokens.
        num_outputs: width of the read-out.
        cell: ``elman`` (tanh), ``lstm`` or ``gru``, each as torch has it.
        depth: recurrent blocks.
        width: units of each.
        reads: the read-out is at ``each`` step, or of the ``last`` one alone, for one label for each sample.
        vocabulary: different tokens; 0: as many as outputs.
        embedding: features of a token.

    Raises:
        ConfigError: samples are no sequences.
    """
    if len(input_shape) not in (1, 2):
        raise ConfigError(
            f"a recurrent network reads sequences (given: samples of shape {input_shape}, expected: (length, features) "
            "as of mnist_rows and sine, or (length,) of tokens as of text and delayed_copy). Choose another model or "
            "data set."
        )
    tokens = vocabulary or num_outputs if len(input_shape) == 1 else 0
    first = embedding if tokens else input_shape[1]
    blocks = [
        Blueprint(partial(_make, cell, width if k else first, width, 0 if k else tokens), f"{cell} {width}")
        for k in range(depth)
    ]
    return [*blocks, Blueprint(partial(_make_read_out, width, num_outputs, reads), f"linear {width}-{num_outputs}")]


class Recurrent(nn.Module):
    """A recurrent layer of torch, its units at every step.

    Args:
        cell: see :func:`build`.
        num_in: features of a step.
        width: units.
    """

    def __init__(self, cell: Cell, num_in: int, width: int) -> None:
        super().__init__()
        self.layer = _CELLS[cell](num_in, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, num_in) to (batch, length, width)."""
        out: Tensor = self.layer(x)[0]
        return out


class LastStep(nn.Module):
    """The last of all steps."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) to (batch, width)."""
        return x[:, -1]


def _make(cell: Cell, num_in: int, width: int, num_tokens: int) -> Block:
    layers: list[nn.Module] = [nn.Embedding(num_tokens, num_in)] if num_tokens else []
    layers.append(Recurrent(cell, num_in, width))
    return Block(nn.Sequential(*layers))


def _make_read_out(width: int, num_outputs: int, reads: str) -> Block:
    layers: list[nn.Module] = [LastStep()] if reads == "last" else []
    return Block(nn.Sequential(*layers, nn.Linear(width, num_outputs)))
