"""The ways of training that a plan compares, a row for each."""

from dataclasses import dataclass

__all__ = ["WAYS", "Way", "find_way"]


@dataclass(frozen=True)
class Way:
    """One way of training; its name stands in ``plan.json`` as the row's schedule."""

    name: str
    mode: str
    """The mode of the runs from which it is planned."""
    is_ours: bool = False
    """Onward's own schedule, under the config's rule; the best placement is one of these."""
    is_split: bool = True
    """Its blocks are laid on stages; else each process has all of them."""
    is_dealt: bool = False
    """Its batch is dealt to processes that have all blocks each."""

    @property
    def is_one_process(self) -> bool:
        """Everything is in one process, whatever the number of stages that is asked for."""
        return not (self.is_split or self.is_dealt)


WAYS = (
    Way("onward", "parallel", is_ours=True),
    Way("1f1b", "1f1b"),
    Way("gpipe", "gpipe"),
    Way("backprop", "backprop", is_split=False),
    Way("ddp", "backprop", is_split=False, is_dealt=True),
)
"""In the order of a plan's rows."""


def find_way(name: str) -> Way:
    """The row of that name."""
    return next(way for way in WAYS if way.name == name)
