"""``launch.py --evaluate`` and ``--predict``: what the network of a run scores, and what it answers."""

import argparse
import os
from collections.abc import Iterator

from pipeline.errors import ConfigError
from pipeline.places import default_data_root
from pipeline.trained.answers import answers
from pipeline.trained.build import load
from pipeline.trained.lines import answer_line, evaluation_line
from pipeline.trained.scoring import device_of, evaluate

__all__ = ["look"]

_OF_A_RUN = (
    "config", "mode", "stages", "transport", "out", "resume", "allow_changes", "trace", "plan", "against", "repeat",
    "generate",
)  # fmt: skip


def look(options: argparse.Namespace) -> Iterator[str]:
    """The lines that the flags ask for.

    Args:
        options: of the command line: ``evaluate`` is the folder of a run, or ``predict`` is one and files.

    Raises:
        ConfigError: what is wrong with the flags, the run, the data or a file.
    """
    _check_flags(options)
    root = options.data_root or default_data_root()
    device = [f"run.device={options.device}"] if options.device is not None else []
    if options.evaluate is not None:
        yield evaluation_line(evaluate(options.evaluate, *device, *options.overrides, data_root=root))
        return
    run, *files = options.predict
    network = load(run, data_root=root)
    network.to(device_of(network, network.recipe.config.overridden(device)))
    yield from map(answer_line, answers(network, files))


def _check_flags(options: argparse.Namespace) -> None:
    """Flags of a run mean nothing where nothing is trained.

    Raises:
        ConfigError: there is one; or there is nothing to answer about, or a rank of torchrun is asked.
    """
    if "RANK" in os.environ:
        raise ConfigError(
            "every rank would say the same (given: --evaluate or --predict under torchrun, expected: without). Start "
            "it with python launch.py."
        )
    flag, other = ("--evaluate", "predict") if options.evaluate is not None else ("--predict", "evaluate")
    given = [name.replace("_", "-") for name in (other, *_OF_A_RUN) if getattr(options, name) not in (None, False)]
    if given:
        raise ConfigError(f"{flag} trains nothing (given: {flag} with --{given[0]}). Leave one of them out.")
    if flag == "--predict" and len(options.predict) < 2:
        raise ConfigError(
            f"there is nothing to answer about (given: --predict {options.predict[0]}, expected: files behind the "
            "run's folder). Name some."
        )
    if flag == "--predict" and options.overrides:
        raise ConfigError(
            f"an answer has nothing to override (given: {options.overrides[0]!r}, expected: files behind the run's "
            "folder). Put --predict last."
        )
