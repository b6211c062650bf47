"""``launch.py --evaluate`` and ``--predict``: what the network of a run scores, and what it answers."""

import argparse
from collections.abc import Iterator

from pipeline.places import default_data_root
from pipeline.trained.answers import answers
from pipeline.trained.build import load
from pipeline.trained.lines import answer_line, evaluation_line
from pipeline.trained.scoring import device_of, evaluate

__all__ = ["look"]


def look(options: argparse.Namespace) -> Iterator[str]:
    """The lines that the flags ask for.

    Args:
        options: of the command line: ``evaluate`` is the folder of a run, or ``predict`` is one and files.

    Raises:
        ConfigError: what is wrong with the run, the data or a file.
    """
    root = options.data_root or default_data_root()
    device = [f"run.device={options.device}"] if options.device is not None else []
    if options.evaluate is not None:
        yield evaluation_line(evaluate(options.evaluate, *device, *options.overrides, data_root=root))
        return
    run, *files = options.predict
    network = load(run, data_root=root)
    network.to(device_of(network, network.recipe.config.overridden(device)))
    yield from map(answer_line, answers(network, files))
