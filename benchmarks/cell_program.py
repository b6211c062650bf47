"""What programs that cells run in place of ``launch.py`` have in common: its flags, and its exit status."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import leave_on_sigterm
from pipeline.errors import ConfigError
from pipeline.places import default_data_root

__all__ = ["flags", "run_program"]


def flags(description: str) -> argparse.ArgumentParser:
    """The flags of ``launch.py`` that a cell's run is given. Args: description, of which the first line is shown."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data-root", type=Path, metavar="DIR", default=default_data_root(),
                        help="default: $ONWARD_DATA, else ~/.cache/onward")
    parser.add_argument("--quiet", action="store_true", help="nothing is written anyway")
    return parser


def run_program(
    name: str, parser: argparse.ArgumentParser, act: Callable[[argparse.Namespace, Sequence[str]], None],
    arguments: Sequence[str],
) -> int:  # fmt: skip
    """0 behind ``act``, or 2 and a line on stderr where the config is wrong; a run that fails raises.

    Args:
        name: of the command.
        parser: :func:`flags`, perhaps with more of them.
        act: is given what was parsed, and the arguments.
        arguments: of the command line.
    """
    leave_on_sigterm()
    options = parser.parse_args(arguments)
    try:
        act(options, arguments)
    except ConfigError as error:
        print(f"{name}: {error}".replace("\n", " "), file=sys.stderr)
        return 2
    return 0
