"""torch's optimizers without their wrappers for ``torch.compile``.

The first optimizer of a process, and its first step, import ``torch._dynamo``: 1.4 s of processor time and 73 MB in
every rank, only to tell a compiler that is not there what to pass over. The wrappers say what they wrap, and that is
all an eager step needs. The arithmetic is torch's, bit for bit.
"""

from inspect import unwrap
from typing import TypeVar

import torch
from torch.optim import Optimizer

__all__ = ["eager"]

Kind = TypeVar("Kind", bound=Optimizer)

_WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def eager(kind: type[Kind]) -> type[Kind]:
    """A subclass of an optimizer's class, of the same name, whose steps build no graph and import no compiler."""
    methods = {name: unwrap(getattr(kind, name)) for name in _WRAPPED}
    methods["step"] = torch.no_grad()(unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "__module__": kind.__module__, "__doc__": kind.__doc__})
