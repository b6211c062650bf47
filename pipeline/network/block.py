"""Blocks, the smallest units that a rule trains, and the blueprints that workers build them from."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.numerics.seeds import derive, seeded

__all__ = ["Block", "Blueprint", "build_block"]


class Block(nn.Module):
    """Part of a network that one rule trains: a ``body``, whose output local losses read, and an ``outlet``.

    Dropout and max-pooling belong to the outlet: they change the activation that is sent and not the input of a local
    loss, as in Nøkland and Eidnes (2019).

    Args:
        body: layers that are trained.
        outlet: layers between the body's output and the next block; None for none.
        ahead: nonlinearity at the beginning of the block above, where blocks meet in front of it. It has no
            parameters and is not called here: a rule may look half a layer ahead.
    """

    def __init__(
        self, body: nn.Module, outlet: nn.Module | None = None, *, ahead: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.outlet = nn.Identity() if outlet is None else outlet
        self.ahead = ahead

    def forward(self, x: Tensor) -> Tensor:
        """Run body and outlet: the input of this block to that of the next, both (batch, ...)."""
        out: Tensor = self.outlet(self.body(x))
        return out


@dataclass(frozen=True)
class Blueprint:
    """Recipe of one block: a picklable function without arguments.

    A worker receives the blueprints of its own blocks and builds no others.
    """

    make: Callable[[], Block]
    name: str
    """Name for displays: ``linear 784-1024``."""
    seed_free: bool = False
    """True where ``make`` holds the weights itself, those of a module object that the user handed over."""


def build_block(blueprint: Blueprint, seed: int, index: int) -> Block:
    """Build a block, its initial weights a function of (run seed, block index) alone.

    Args:
        blueprint: from the model's ``build``.
        seed: seed of the run.
        index: position of the block in the network, from 0.
    """
    with seeded(derive(seed, "init", index)):
        return blueprint.make()
