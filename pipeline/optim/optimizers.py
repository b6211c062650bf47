"""torch's optimizers by name, with checked options, in the fastest form that torch has for them.

One optimizer may hold the parameters of all blocks of a stage. Every parameter has state of its own, and one whose
gradient is None is passed over, so that the result is the same bit for bit as from one optimizer per block.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, optim

from pipeline.errors import ConfigError
from pipeline.optim.eager import eager
from pipeline.optim.lean_adam import LeanAdam, LeanAdamW
from pipeline.optim.sign_descent import SignDescent
from pipeline.ranges import LARGEST, Range
from pipeline.registry import nearest
from pipeline.values import check_value

__all__ = ["OptimizerSpec", "asks_for_rate_once", "load_optimizer", "optimizer_options", "state_options"]

_CLASSES: dict[str, type[optim.Optimizer]] = {
    "adagrad": eager(optim.Adagrad),
    "adam": eager(optim.Adam),
    "adamw": eager(optim.AdamW),
    "rmsprop": eager(optim.RMSprop),
    "rprop": eager(optim.Rprop),
    "sgd": eager(optim.SGD),
    "sign_sgd": eager(SignDescent),
}

_FUSED = {"adam": ("cpu", "cuda"), "adamw": ("cpu", "cuda"), "sgd": ("cpu", "cuda"), "adagrad": ("cpu",)}
"""Devices for which one kernel does the whole step, in every torch that ``setup.cfg`` admits."""

_LEAN: dict[str, type[LeanAdam]] = {"adam": LeanAdam, "adamw": LeanAdamW}

_STATE = {"adam": ("amsgrad",), "adamw": ("amsgrad",), "rmsprop": ("momentum", "centered")}
"""Options for which a step needs one tensor more in a parameter's state. sgd begins that of its momentum by itself."""

_NOT_OPTIONS = {"params", "foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay"}
"""Arguments about how a step is computed, which is decided here, or which make another optimizer of it."""


_FACTOR = Range(0, LARGEST)
_RANGES: dict[str, Range] = {
    "lr": _FACTOR, "lr_decay": _FACTOR, "weight_decay": _FACTOR, "initial_accumulator_value": _FACTOR, "eps": _FACTOR,
    "momentum": _FACTOR, "dampening": Range(-LARGEST, LARGEST), "alpha": _FACTOR,
    "betas": Range(0, 1, below=True), "etas": Range(0, LARGEST, above=True), "step_sizes": _FACTOR,
}  # fmt: skip
"""Of every number, and of each number of a pair; what else torch demands of them it says itself."""


def asks_for_rate_once(name: str) -> bool:
    """The optimizer takes the learning rate at its first step and never again, whatever it does later."""
    return name == "rprop"


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer's name and checked options; picklable."""

    name: str
    options: Mapping[str, Any]
    """Options of the torch class, its defaults filled in."""
    clip: float = 0.0
    """Largest norm of the gradients of one block; 0: none. :meth:`build` makes the optimizer alone."""
    decay_on: Literal["all", "matrices"] = "all"
    """Parameters that ``weight_decay`` is for: all, or those with two dimensions and more."""

    @property
    def lr(self) -> float:
        """The learning rate before any schedule."""
        return float(self.options["lr"])

    @property
    def state_copies(self) -> int:
        """Numbers that the optimizer keeps for each number of a parameter, after a step."""
        parameter = torch.nn.Parameter(torch.zeros(1))
        parameter.grad = torch.ones(1)
        optimizer = self.build([parameter])
        optimizer.step()
        return sum(isinstance(t, Tensor) and t.shape == (1,) for t in optimizer.state[parameter].values())

    def build(self, params: Iterable[Tensor]) -> optim.Optimizer:
        """Build the optimizer. Args: params, at least one, all on one device."""
        params = list(params)
        kind: Any = _CLASSES[self.name]
        if not self._fuses(params):
            foreach: optim.Optimizer = kind(params, **self.options, foreach=True)
            return foreach
        if self.name in _LEAN:
            return _LEAN[self.name](params, **self.options)
        fused: optim.Optimizer = kind(params, **self.options, fused=True)
        if self.options.get("momentum"):
            # [Note: momentum from zero] torch's fused SGD fills missing buffers only if all are missing, and blocks
            # need not begin in the same step. From a buffer of zeros the first step is the same.
            for p in params:
                fused.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return fused

    def _fuses(self, params: list[Tensor]) -> bool:
        """True where one kernel can do the step; with dampening, [Note: momentum from zero] would not hold."""
        if self.options.get("momentum") and self.options.get("dampening"):
            return False
        return all(p.device.type in _FUSED.get(self.name, ()) and p.is_floating_point() for p in params)


def load_optimizer(name: str, options: Mapping[str, Any], beside: Sequence[str] = ()) -> OptimizerSpec:
    """Look up an optimizer and check its options.

    Args:
        name: adagrad, adam, adamw, rmsprop, rprop, sgd or sign_sgd.
        options: keyword arguments of the torch class: ``lr``, ``betas``, ``momentum``, ``weight_decay``.
        beside: keys that the section has beside these, for error messages.

    Raises:
        ConfigError: unknown name or option, a value of the wrong type, or one that torch refuses.
    """
    if name not in _CLASSES:
        raise ConfigError(
            f"unknown optimizer (given: {name!r}, expected: {', '.join(_CLASSES)}). "
            f"{nearest(name, list(_CLASSES))}Change optimizer.name."
        )
    checked = _defaults(name)
    for key, value in options.items():
        if key not in checked:
            allowed = ", ".join(f"optimizer.{k}" for k in (*checked, *beside))
            raise ConfigError(
                f"unknown key (given: optimizer.{key}, expected: {allowed}). "
                f"{nearest(key, [*checked, *beside])}Correct or remove it."
            )
        checked[key] = _check(key, value, checked[key])
    spec = OptimizerSpec(name, checked)
    try:
        spec.build([torch.nn.Parameter(torch.zeros(1))])
    except ValueError as error:
        raise ConfigError(f"torch refuses these options (given: {name}; it says: {error}). Change them.") from None
    return spec


def state_options(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that are on and without which a parameter's state lacks something that a step needs.

    Args:
        name: see :func:`load_optimizer`.
        options: the defaults may be left out.
    """
    return tuple(key for key in _STATE.get(name, ()) if options.get(key))


def _defaults(name: str) -> dict[str, Any]:
    """The options of the torch class, numbers as floats."""
    parameters = inspect.signature(_CLASSES[name]).parameters.values()
    return {p.name: _as_float(p.default) for p in parameters if p.name not in _NOT_OPTIONS}


def _annotation(key: str, default: Any) -> Any:
    """The type of an option, a number with its range."""
    if isinstance(default, bool):
        return bool
    number = Annotated[float, _RANGES[key]]
    return tuple[number, ...] if isinstance(default, tuple) else number


def optimizer_options() -> dict[str, dict[str, inspect.Parameter]]:
    """The options of every optimizer, by the optimizer's name."""

    def option(key: str, default: Any) -> inspect.Parameter:
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(key, kind, default=default, annotation=_annotation(key, default))

    return {name: {key: option(key, default) for key, default in _defaults(name).items()} for name in _CLASSES}


def _as_float(default: Any) -> Any:
    """torch writes ``weight_decay=0`` where any number is meant."""
    if isinstance(default, tuple):
        return tuple(map(_as_float, default))
    return float(default) if type(default) is int else default


def _check(key: str, value: Any, default: Any) -> Any:
    """Check that ``value`` has the type of ``default``, and return it."""
    checked = check_value(value, _annotation(key, default), f"optimizer.{key}")
    if not isinstance(default, tuple):
        return checked
    if len(checked) != len(default):
        raise ConfigError(
            f"wrong number of values for optimizer.{key} (given: {value!r}, expected: {len(default)}). Change it."
        )
    return checked
