"""Blocks, the smallest units that a rule trains, and the blueprints a worker builds its own from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.numerics.seeds import derive, seeded

__all__ = ["Block", "Blueprint", "build_block"]


class Block(nn.Module):
    """``body`` does the work and is what local losses read; ``outlet`` stands between it and the next block.

    Dropout and max-pooling belong to the outlet: they change what is sent and not what a local loss sees
    (``rules.md`` 2.4). A module without such an end is a body with an empty outlet.

    Args:
        body: what is trained.
        outlet: has no loss behind it.
        ahead: the nonlinearity with which the block above begins, where blocks meet in front of it: not called here,
            but known to a rule that looks half a layer ahead. It has no parameters.
    """

    def __init__(
        self, body: nn.Module, outlet: nn.Module | None = None, *, ahead: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.outlet = nn.Identity() if outlet is None else outlet
        self.ahead = ahead

    def forward(self, x: Tensor) -> Tensor:
        """Input of this block to input of the next, both (batch, ...)."""
        out: Tensor = self.outlet(self.body(x))
        return out


@dataclass(frozen=True)
class Blueprint:
    """How to build one block: a picklable function that takes no arguments.

    A worker receives the blueprints of its own blocks and builds no others.
    """

    make: Callable[[], Block]
    name: str
    """For people: ``linear 784-1024``."""
    seed_free: bool = False
    """The weights are already inside ``make`` (a module object that the user handed over)."""


def build_block(blueprint: Blueprint, seed: int, index: int) -> Block:
    """The block, its initial weights a function of (run seed, block index) alone.

    Args:
        blueprint: from the model's ``build``.
        seed: the run's seed.
        index: position of the block in the network, from 0.
    """
    with seeded(derive(seed, "init", index)):
        return blueprint.make()
