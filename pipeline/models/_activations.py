"""Nonlinearities of the models by name: a smooth part f, and for some a non-differentiable part g."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.hard_units import Bernoulli, LocalWinner, Sign, SoftLocalWinner, Step

__all__ = ["Activation", "ConvActivation", "Unit", "units_of"]

ConvActivation = Literal[
    "relu", "leaky_relu", "tanh", "sigmoid", "mish", "gelu", "silu", "softsign", "relu6", "softplus", "hard_tanh",
    "clip", "sign", "signum", "bernoulli",
]  # fmt: skip
"""Elementwise nonlinearities, which suit maps too."""
_Group = Literal["lwta1", "lwta2", "slwta1", "slwta2"]
Activation = ConvActivation | _Group
"""Nonlinearities of fully connected blocks; ``leaky_relu`` has slope 0.01, and ``clip`` clips to [0, 1].
``sign`` (-1, +1), ``signum`` (0, 1), ``bernoulli`` (a sample, in evaluation too), ``lwta1`` and ``lwta2`` (the winner
of each group) and ``slwta1`` and ``slwta2`` (softmax in each group) stand behind tanh, tanh, the logistic function, and
for 1 and 2 tanh and hard tanh, for the rules that bypass non-differentiable parts."""

_Layer = Callable[[], nn.Module]
_SMOOTH: dict[str, _Layer] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01, torch's default and that of the published runs
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softsign": nn.Softsign,
    "relu6": nn.ReLU6,
    "softplus": nn.Softplus,
    "hard_tanh": nn.Hardtanh,
    "clip": partial(nn.Hardtanh, 0.0, 1.0),
}
_HARD: dict[str, tuple[_Layer, _Layer]] = {
    "sign": (nn.Tanh, Sign),
    "signum": (nn.Tanh, Step),
    "bernoulli": (nn.Sigmoid, Bernoulli),
}
_GROUPS: dict[str, tuple[_Layer, type[LocalWinner] | type[SoftLocalWinner]]] = {
    "lwta1": (nn.Tanh, LocalWinner),
    "lwta2": (nn.Hardtanh, LocalWinner),
    "slwta1": (nn.Tanh, SoftLocalWinner),
    "slwta2": (nn.Hardtanh, SoftLocalWinner),
}


@dataclass(frozen=True)
class Unit:
    """The nonlinearity of a block."""

    name: Activation
    group: int = 4
    """Neighbours that compete with each other in lwta and slwta."""

    def check(self, width: int) -> None:
        """Raise ConfigError if ``width`` units cannot be grouped."""
        if self.name in _GROUPS and (self.group < 1 or width % self.group):
            raise ConfigError(
                f"the units cannot be put into groups (given: model.group = {self.group}, {width} units, expected: "
                "a divisor of model.width). Change one of them."
            )

    def layers(self) -> dict[str, nn.Module]:
        """Layers by name: ``activation``, and ``hard`` where there is one; none of them works in place."""
        if self.name in _SMOOTH:
            return {"activation": _SMOOTH[self.name]()}
        if self.name in _HARD:
            smooth, hard = _HARD[self.name]
            return {"activation": smooth(), "hard": hard()}
        smooth, grouped = _GROUPS[self.name]
        return {"activation": smooth(), "hard": grouped(self.group)}


def units_of(activation: Activation | list[Activation], count: int, group: int) -> list[Unit]:
    """The unit of each of ``count`` hidden layers.

    Args:
        activation: of all of them, or a list with one for each.
        count: hidden layers.
        group: units that compete, see :class:`Unit`.

    Raises:
        ConfigError: there are not as many names as layers.
    """
    names = activation if isinstance(activation, list) else [activation] * count
    if len(names) != count:
        raise ConfigError(
            f"each hidden layer has a unit (given: {len(names)} in model.activation for {count} hidden layers, "
            "expected: as many, or one name for all). Change model.activation, or how many layers there are."
        )
    return [Unit(name, group) for name in names]
