"""Prints a sample of the text that a finished run has learned to make (``--resume DIR --generate N``)."""

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten

import torch

from pipeline.config import Config
from pipeline.errors import ConfigError, DamagedFile
from pipeline.measure.generation import generated
from pipeline.numerics.seeds import seeded
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import resolve

__all__ = ["generate", "shown"]


def generate(config: Config, run: Path, count: int, data_root: Path, say: Callable[[str], None]) -> None:
    """Says ``count`` bytes of text, made by the newest weights in ``run``.

    Args:
        config: of the run.
        run: its folder.
        count: at least 1.
        data_root: where data sets are; the run's own is looked for, and not read.
        say: is given the text, see :func:`shown`.

    Raises:
        ConfigError: there are no whole weights, they are of another network, or the run is not about text.
    """
    resolved = resolve(config, data_root)
    try:
        states = load_blocks(latest_weights(run))
    except (FileNotFoundError, DamagedFile) as error:
        raise ConfigError(str(error)) from None
    with seeded(0):
        try:
            text = generated(resolved, states, count, torch.device("cpu"))
        except ConfigError:
            raise
        except (RuntimeError, ValueError) as error:  # of load_state_dict, and of another number of blocks
            reason = shorten(str(error), 200)
            raise ConfigError(
                f"the weights are of another network (given: --resume {run} and a config of other shapes, {reason}; "
                "expected: the config of the run). Leave the overrides out."
            ) from None
        say(shown(b"".join(text)))


def shown(text: bytes) -> str:
    """Bytes as text for a terminal: undecodable ones replaced, and what does not print, but new lines and tabs,
    escaped."""
    decoded = text.decode("utf8", errors="replace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in decoded)
