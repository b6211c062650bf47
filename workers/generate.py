"""Prints a sample of the text that a finished run has learned to make (``--resume DIR --generate N``)."""

from collections.abc import Callable
from pathlib import Path
from textwrap import shorten

import torch

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.measure.generation import generated
from pipeline.network.from_modules import UserModel
from pipeline.network.structure import unpack_structure
from pipeline.numerics.seeds import seeded
from pipeline.resolve import resolve
from pipeline.trained.sources import Run, Source, read_run

__all__ = ["generate", "shown"]


def generate(config: Config, run: Path, count: int, data_root: Path, say: Callable[[str], None]) -> None:
    """Says ``count`` bytes of text, made by the weights that ``run`` has ended with.

    Args:
        config: of the run.
        run: its folder; a network that was handed over as an object is made again from it.
        count: at least 1.
        data_root: where data sets are; the run's own is looked for, and not read.
        say: is given the text, see :func:`shown`.

    Raises:
        ConfigError: the run has not ended well, its weights are damaged, they are of another network, or the run is
            not about text.
    """
    source = read_run(Run(run))
    assert source.states is not None, "a run has those of its blocks"
    model = _handed_over(source) if config.model.name == "object" else None
    resolved = resolve(config, data_root, model, begins=False)
    with seeded(0):
        try:
            text = generated(resolved, source.states, count, torch.device("cpu"))
        except ConfigError:
            raise
        except (RuntimeError, ValueError) as error:  # of load_state_dict, and of another number of blocks
            reason = shorten(str(error), 200)
            raise ConfigError(
                f"the weights are of another network (given: --resume {run} and a config of other shapes, {reason}; "
                "expected: the config of the run). Leave the overrides out."
            ) from None
        say(shown(b"".join(text)))


def _handed_over(source: Source) -> UserModel:
    """The network that was handed over to a run as an object, with weights of no meaning."""
    if source.facts is None or source.facts.structure is None:
        raise ConfigError(
            f"the network was handed over as an object, and the run has no description of it (given: {source.name}, "
            "expected: a network that can be made again). Name a run of such a one, or of one that its config names."
        )
    return unpack_structure(source.facts.structure)


def shown(text: bytes) -> str:
    """Bytes as text for a terminal: undecodable ones replaced, and what does not print, but new lines and tabs,
    escaped."""
    decoded = text.decode("utf8", errors="replace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in decoded)
