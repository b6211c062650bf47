"""Sign descent: every weight steps by the learning rate against its gradient's sign.

It is what Rprop becomes when its step sizes cannot adapt, as in the Mertens notebook's parallel run: one Rprop shared
by all layers met zero-filled gradients between the real ones, and a product of signs with zero is no reason to change
a step.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, optim

__all__ = ["SignDescent"]


class SignDescent(optim.Optimizer):
    """Sign descent ``w <- w - lr * sign(g)``, without state; a gradient of 0 moves nothing.

    Args:
        params: parameters to step.
        lr: length of every step, at least 0.
        foreach: step all tensors in one operation.

    Raises:
        ValueError: a negative learning rate.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01, foreach: bool = True) -> None:
        if lr < 0:
            raise ValueError(f"the learning rate is negative (given: lr={lr}, expected: at least 0). Change it.")
        super().__init__(params, {"lr": lr, "foreach": foreach})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient.

        Args:
            closure: ignored; in torch's own signature.
        """
        for group in self.param_groups:
            params: list[Any] = [p for p in group["params"] if p.grad is not None]
            signs = [torch.sign(p.grad) for p in params]
            if params and group["foreach"]:
                torch._foreach_add_(params, signs, alpha=-group["lr"])
            else:
                for p, sign in zip(params, signs, strict=True):
                    p.add_(sign, alpha=-group["lr"])
