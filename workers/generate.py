"""Prints a sample of the text that a finished run has learned to make (``--resume DIR --generate N``)."""

from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.config import Config
from pipeline.errors import ConfigError, DamagedFile
from pipeline.measure.generation import generated
from pipeline.numerics.seeds import seeded
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import resolve

__all__ = ["generate"]


def generate(config: Config, run: Path, count: int, data_root: Path, say: Callable[[str], None]) -> None:
    """Says ``count`` bytes of text, made by the newest weights in ``run``.

    Args:
        config: of the run.
        run: its folder.
        count: at least 1.
        data_root: where data sets are; the run's own is looked for, and not read.
        say: is given the text, undecodable bytes replaced.

    Raises:
        ConfigError: there are no whole weights, or the run is not about text.
    """
    resolved = resolve(config, data_root)
    try:
        states = load_blocks(latest_weights(run))
    except (FileNotFoundError, DamagedFile) as error:
        raise ConfigError(str(error)) from None
    with seeded(0):
        text = b"".join(generated(resolved, states, count, torch.device("cpu")))
    say(text.decode("utf8", errors="replace"))
