"""Initial weights and biases of linear layers."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from pipeline.errors import ConfigError

__all__ = ["Init", "Initial"]

Init = Literal["default", "zero_output", "zero", "normal", "xavier", "orthogonal", "fan_in"]


@dataclass(frozen=True)
class Initial:
    """The option ``model.init`` and the number that belongs to one of its values.

    Raises:
        ConfigError: ``std`` without ``normal``, ``normal`` without it, or a negative one.
    """

    name: Init = "default"
    """``default`` is torch's own; ``zero_output`` clears the output block's weight, ``zero`` all weights and biases;
    the others draw every weight (``xavier`` is uniform, ``fan_in`` too, in +-1/sqrt(fan-in)) and clear every bias."""
    std: float | None = None
    """Standard deviation of ``normal``."""

    def __post_init__(self) -> None:
        if self.name == "normal" and (self.std is None or not self.std >= 0):
            given = "no model.init_std" if self.std is None else f"model.init_std = {self.std}"
            raise ConfigError(
                f"normal weights need a standard deviation (given: model.init = 'normal' with {given}, expected: "
                "model.init_std of at least 0). Set model.init_std, e.g. to 0.05."
            )
        if self.name != "normal" and self.std is not None:
            raise ConfigError(
                f"only normal weights take a standard deviation (given: model.init_std = {self.std} with model.init = "
                f"{self.name!r}). Remove model.init_std, or set model.init to 'normal'."
            )

    @property
    def is_zero(self) -> bool:
        """True where all weights start at 0."""
        return self.name == "zero" or self.std == 0

    def __call__(self, linear: nn.Linear, *, is_output: bool = False) -> None:
        """Initialise a linear layer that torch has just made. Args: is_output, True for the network's last layer."""
        if self.name == "zero_output" and is_output:
            nn.init.zeros_(linear.weight)
        if self.name in ("default", "zero_output"):
            return
        nn.init.zeros_(linear.bias)
        if self.name == "fan_in":
            return  # torch's own weight
        if self.name == "zero":
            nn.init.zeros_(linear.weight)
        elif self.name == "normal":
            assert self.std is not None
            nn.init.normal_(linear.weight, std=self.std)
        elif self.name == "xavier":
            nn.init.xavier_uniform_(linear.weight)
        else:
            nn.init.orthogonal_(linear.weight)
