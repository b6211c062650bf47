"""Cells of the planner's study: one way of training on so many stages over one link, each planned and then run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["CELLS", "Cell", "cells"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run, and what it is planned by."""

    preset: str
    schedule: str
    """See :data:`workers.planner.ways.WAYS`."""
    stages: int
    delay_s: float = 0.0
    """Latency of every message, by ``chaos.delay_s``."""
    replicas: tuple[int, ...] = ()
    """Of each stage; empty: one."""
    mbit_per_s: float | None = None
    """Rate of the link between two hosts, a stage on each; None: all on this one."""

    @property
    def name(self) -> str:
        """``mlp-8x1024, 1f1b, 2 stages, 5 ms``."""
        parts = [self.preset, self.schedule, f"{self.stages} stage{'s' if self.stages > 1 else ''}"]
        parts += [f"replicas {','.join(map(str, self.replicas))}"] if self.replicas else []
        parts += [f"{self.delay_s * 1e3:g} ms"] if self.delay_s else []
        parts += [f"{self.mbit_per_s:g} Mbit/s"] if self.mbit_per_s is not None else []
        return ", ".join(parts)


def _mlp(preset: str) -> Iterator[Cell]:
    """Of a net of equal layers: every way, on one to four stages, over three latencies."""
    for schedule, stages in (("onward", 1), ("onward", 2), ("onward", 4), ("1f1b", 2), ("1f1b", 4), ("gpipe", 2)):
        yield Cell(preset=preset, schedule=schedule, stages=stages)
    yield Cell(preset=preset, schedule="backprop", stages=1)
    for schedule in ("onward", "1f1b"):
        for delay_s in (0.005, 0.02):
            yield Cell(preset=preset, schedule=schedule, stages=2, delay_s=delay_s)
    yield Cell(preset=preset, schedule="onward", stages=1, replicas=(2,))


def _vgg(preset: str) -> Iterator[Cell]:
    """Of a convolutional net, whose steps are long."""
    for schedule, stages in (("onward", 1), ("onward", 2), ("onward", 4), ("1f1b", 2), ("gpipe", 2)):
        yield Cell(preset=preset, schedule=schedule, stages=stages)
    yield Cell(preset=preset, schedule="backprop", stages=1)
    for schedule in ("onward", "1f1b"):
        yield Cell(preset=preset, schedule=schedule, stages=2, delay_s=0.02)


CELLS: tuple[Cell, ...] = (
    *_mlp("mlp-8x1024"), *_mlp("mlp-8x128"), *_vgg("vgg8b-quarter"),
    *(Cell(preset="mlp-8x1024", schedule=schedule, stages=2, mbit_per_s=rate)
      for schedule, rate in (("onward", 100.0), ("1f1b", 100.0), ("onward", 1000.0))),
)  # fmt: skip
"""Those with a rate need root, and are left out without."""


def cells(presets: Sequence[str], stages: Sequence[int], *, over_hosts: bool) -> list[Cell]:
    """The cells of these presets and numbers of stages.

    Args:
        presets: empty for all.
        stages: empty for all.
        over_hosts: also those whose link has a rate.
    """
    return [
        cell for cell in CELLS
        if (not presets or cell.preset in presets) and (not stages or cell.stages in stages)
        and (over_hosts or cell.mbit_per_s is None)
    ]  # fmt: skip
