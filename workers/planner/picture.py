"""The picture of a plan, where matplotlib is installed."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.planner.ways import find_way

__all__ = ["draw_plan"]

logger = logging.getLogger(__name__)


def draw_plan(rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Samples per second of every schedule over the stages; False where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        logger.warning("no picture of the plan is drawn (%s). Install matplotlib.", error)
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for schedule in dict.fromkeys(row["schedule"] for row in rows):
        own = sorted((row["stages"], row["samples_per_s"]) for row in rows if row["schedule"] == schedule)
        if find_way(schedule).is_one_process:
            axes.axhline(own[0][1], linestyle=":", color="grey", label=f"{schedule}, one process")
        else:
            axes.plot([n for n, _ in own], [rate for _, rate in own], marker="o", label=schedule)
    axes.set_xlabel("stages")
    axes.set_ylabel("samples per second, predicted")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path)
    return True
