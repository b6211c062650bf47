"""Text that a trained network makes: byte by byte, each drawn from what the network says comes next."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pipeline.data.task import Labels
from pipeline.errors import ConfigError
from pipeline.measure.whole_network import WholeNetwork
from pipeline.numerics.seeds import derive
from pipeline.resolve import RunSpec

__all__ = ["TEMPERATURE", "generated"]

TEMPERATURE = 0.8
"""Below 1, what is likely becomes likelier still."""


def generated(
    resolved: RunSpec, states: Sequence[Mapping[str, Tensor]], count: int, device: torch.device,
    prompt: bytes = b"\n",
) -> Iterator[bytes]:  # fmt: skip
    """Bytes behind ``prompt``, one by one; the same for the same weights, a function of the run's seed.

    A window is always filled up, and read where the text ends: a network that looks at no later position, as a
    transformer or a recurrent one, does not see the filling.

    Args:
        resolved: the run, with the blueprints of all blocks.
        states: of all blocks, see :func:`pipeline.records.weights.load_blocks`.
        count: bytes to make.
        device: to compute on.
        prompt: at least one byte.

    Raises:
        ConfigError: the run has not learned to predict the bytes of a text.
        RuntimeError, ValueError: ``states`` are of other blocks.
    """
    task = resolved.data.task
    if task.labels is not Labels.CLASSES or task.headline != "bits_per_byte":
        raise ConfigError(
            f"this run makes no text (given: the data set {resolved.config.dataset.name}, expected: text). Leave "
            "--generate out, or name a run on text."
        )
    return _drawn(resolved, WholeNetwork(resolved, 1, states, device), count, device, prompt)


def _drawn(
    resolved: RunSpec, network: WholeNetwork, count: int, device: torch.device, prompt: bytes
) -> Iterator[bytes]:  # fmt: skip
    """Bytes, one by one; see :func:`generated`."""
    task, window = resolved.data.task, resolved.data.input_shape[0]
    generator = torch.Generator().manual_seed(derive(resolved.config.seed, "generate"))
    text = bytearray(prompt)
    for _ in range(count):
        seen = torch.tensor(list(text[-window:]))
        x = torch.zeros(1, window, dtype=torch.int64)
        x[0, : len(seen)] = seen
        scores = network.look(x.to(device), torch.zeros_like(x, dtype=task.label_dtype).to(device))[-1]
        assert scores is not None, "the last block's output is its scores"
        if not scores.isfinite().all():
            raise ConfigError(
                f"this network's scores are not finite (given: its weights and {len(seen)} bytes of text, expected: "
                "numbers). Leave --generate out, or name a run that has learned."
            )
        chances = (scores[0, len(seen) - 1].cpu() / TEMPERATURE).softmax(0)
        text.append(int(torch.multinomial(chances, 1, generator=generator)))
        yield bytes(text[-1:])
