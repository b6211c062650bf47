"""Adam and AdamW by torch's fused kernel, called without the bookkeeping around it.

``torch.optim.Adam.step`` looks up every parameter's state anew, groups tensors by device and type, counts the steps
of each parameter one by one, and enters a profiler range: 50 us a call, as much as all products of a 128 x 128 block.
None of that changes from step to step. Here the lists are gathered once, and gathered anew when the groups were
replaced or added to, or other parameters have gradients. The kernel and the numbers are torch's own. Hooks on the
optimizer are not called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, optim

from pipeline.optim.eager import eager

__all__ = ["LeanAdam", "LeanAdamW"]

if TYPE_CHECKING:
    _Adam = optim.Adam
else:
    _Adam = eager(optim.Adam)


@dataclass(slots=True)
class _Lists:
    """Arguments of the kernel for one parameter group, except the gradients."""

    group: dict[str, Any]
    params: list[Tensor]
    averages: list[Tensor]
    squares: list[Tensor]
    largest: list[Tensor]
    steps: list[Tensor]
    counts: Tensor
    """Memory of all ``steps``, incremented in one operation."""


class LeanAdam(_Adam):
    """:class:`torch.optim.Adam` with ``fused=True`` on one device; see the module's docstring."""

    _kernel = staticmethod(torch._fused_adam_)

    def __init__(self, params: list[Tensor], **options: Any) -> None:
        self._lists: list[_Lists] = []
        self._absent: list[Tensor] = []
        """Parameters without a gradient, which are in no list."""
        self._gathered_for: Any = None
        super().__init__(params, **options, fused=True)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient.

        Args:
            closure: ignored; in torch's own signature.
        """
        if self._gathered_for is not self.param_groups or not self._call():
            self._gathered_for = None
            super().step()
            self._gather()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """See :class:`torch.optim.Optimizer`."""
        self._gathered_for = None
        super().add_param_group(param_group)

    # torch wraps the step of every optimizer class into a profiler range and calls for hooks, unless it is marked so.
    step.hooked = True  # type: ignore[attr-defined]

    def _call(self) -> bool:
        """Call the kernel on the lists. Returns: False, and steps nothing, if other parameters have gradients now."""
        every = []
        if any(p.grad is not None for p in self._absent):
            return False
        for lists in self._lists:
            gradients = [g for p in lists.params if (g := p.grad) is not None]
            if len(gradients) < len(lists.params):
                return False
            every.append(gradients)
        with torch.no_grad():
            for lists, gradients in zip(self._lists, every, strict=True):
                group = lists.group
                lists.counts.add_(1.0)
                self._kernel(
                    lists.params, gradients, lists.averages, lists.squares, lists.largest, lists.steps,
                    lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
                    weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=group["amsgrad"],
                    maximize=group["maximize"], grad_scale=None, found_inf=None,
                )  # fmt: skip
        return True

    def _gather(self) -> None:
        """Gather the lists after a step by torch: of the parameters that have a gradient."""
        self._lists, self._absent = [], []
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            self._absent += [p for p in group["params"] if p.grad is None]
            if not params:
                continue
            states = [self.state[p] for p in params]
            counts = torch.stack([s["step"] for s in states])
            for state, count in zip(states, counts.unbind(), strict=True):
                state["step"] = count
            self._lists.append(_Lists(
                group, params, [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states],
                [s["max_exp_avg_sq"] for s in states] if group["amsgrad"] else [], [s["step"] for s in states], counts,
            ))  # fmt: skip
        self._gathered_for = self.param_groups


class LeanAdamW(LeanAdam, optim.AdamW):
    """:class:`torch.optim.AdamW` with ``fused=True`` on one device; see the module's docstring."""

    _kernel = staticmethod(torch._fused_adamw_)
