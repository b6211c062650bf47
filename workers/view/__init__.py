"""Views of a run for people. Imports no terminal library: a run that is not shown needs none."""

from collections.abc import Callable
from pathlib import Path

from pipeline.records.view import View
from pipeline.resolve import RunSpec
from workers.placement import Placement

__all__ = ["ViewMaker"]

ViewMaker = Callable[[RunSpec, Placement, Path], View]
"""Function that makes the view of a run, from the run, its placement and the folder of its files."""
