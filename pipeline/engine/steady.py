"""The gate G1m: an axis gate under which a block learns from its input as though what moves stood still.

For its learning a block runs forward a second time, on

    x~_j = g_j x_j + (1 - g_j) mu_j

with g_j the part of axis j (:class:`pipeline.engine.gates.AxisGate`) and mu_j its mean over the newest probe and over
all positions. What is passed on is the output for the input as it is, and so are the running statistics.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from pipeline.config.gate import GateConfig
from pipeline.engine.gates import AxisGate
from pipeline.learning.rule import LearningRule

__all__ = ["SteadyGate"]


class SteadyGate(AxisGate):
    """See the module's docstring.

    Args:
        config, rules, num_steps: see :class:`pipeline.engine.gates.MeasuredGate`.
    """

    def __init__(self, config: GateConfig, rules: Mapping[int, LearningRule], num_steps: int) -> None:
        super().__init__(config, rules, num_steps)
        self._mixed: dict[int, tuple[Tensor, Tensor]] = {}
        """Of each block whose parts are not all 1: the parts, and what the probe means add, both (axes,)."""
        for k, rule in rules.items():
            rule.register_forward_hook(partial(self._learn_from_steady, k))

    def measured(self, block: int, step: int) -> None:
        """See :class:`pipeline.engine.gates.MeasuredGate`."""
        super().measured(block, step)
        self._mixed.pop(block, None)
        parts = self._parts(block)
        last = self._inputs[block].last
        if block in self._closing and parts is not None and last is not None:
            self._mixed[block] = parts, (1.0 - parts) * _means(last)

    def steady(self, block: int, x: Tensor) -> Tensor | None:
        """What a block learns from in place of ``x``, of its shape; None where that is ``x`` itself."""
        if block not in self._mixed:
            return None
        shape = (-1, 1, 1) if x.dim() == 4 else (-1,)
        parts, rest = (vector.view(shape).to(x.dtype) for vector in self._mixed[block])
        return parts * x + rest

    def _learn_from_steady(
        self, block: int, rule: nn.Module, arguments: tuple[Tensor, Tensor], output: tuple[Tensor, Any]
    ) -> tuple[Tensor, Any] | None:
        """A hook behind a block's forward pass in training, which puts another context in the place of its own."""
        if not rule.training or (x := self.steady(block, arguments[0])) is None:
            return None
        with _own_buffers(rule):
            _, context = rule.forward(x, arguments[1])
        return output[0], context


@contextmanager
def _own_buffers(module: nn.Module) -> Iterator[None]:
    """Inside, copies stand for the buffers, and what changes them is forgotten. They are not copied back: what has been
    computed before may hold a buffer for its derivative, and knows when that was written to."""
    held = [(part, name, buffer) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in held:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in held:
            setattr(part, name, buffer)


def _means(x: Tensor) -> Tensor:
    """Of each axis, (axes,), float32. Args: x, (samples, ...), see :func:`pipeline.engine.drift.axis_shift`."""
    axis = 1 if x.dim() == 4 else x.dim() - 1
    return x.float().mean(dim=[d for d in range(x.dim()) if d != axis])
