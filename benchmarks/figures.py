"""Draws what runs have measured: angles to backprop, accuracy and depth of credit, decision maps, t-SNE.

    python -m benchmarks.figures runs/mine                   # into runs/mine/figures
    python -m benchmarks.figures runs/fa runs/dfa --out compared

Accuracies and depth of credit stand in the record of every run; the rest is there where a run was started with
``measure.every`` above 0 (docs/measurements.md).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workers.report.measured import read_run

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, 1 matplotlib is missing or there is nothing to draw, 2 a folder is not a run's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: figures, in the folder of the first run")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args(arguments)
    try:
        runs = [read_run(folder) for folder in options.runs]
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        from benchmarks import drawings
    except ImportError as error:
        print(f"no figures are drawn ({error}). Install matplotlib: pip install 'onward-pipeline[plots]'.",
              file=sys.stderr)  # fmt: skip
        return 1
    drawn = drawings.draw(runs, options.out or options.runs[0] / "figures", options.format)
    for path in drawn:
        print(f"drawn: {path}")
    if not drawn:
        print("nothing to draw (given: runs that have finished no epoch). Name a run that has.", file=sys.stderr)
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
