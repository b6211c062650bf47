"""The optimizer of a stage: one object over the parameters of all its blocks.

Each parameter's state is its own, and blocks that do not learn have no gradients, so the numbers are those of an
optimizer for each block, in one call.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.learning.rule import LearningRule
from pipeline.optim.lr import LrSchedule
from pipeline.optim.optimizers import OptimizerSpec
from pipeline.records.reports import GateRow
from pipeline.schedules.plan import Plan

__all__ = ["Stepper"]


class Stepper:
    """Steps the parameters that rules declare.

    Args:
        rules: of the hosted blocks, by block.
        optimizer: how parameters are stepped.
        lr: the learning rate's course.
    """

    def __init__(self, rules: Mapping[int, LearningRule], optimizer: OptimizerSpec, lr: LrSchedule) -> None:
        self._lr = lr
        self._spec = optimizer
        self._groups = {k: rule.parameter_groups() for k, rule in rules.items()}
        every = [p for k in rules for p in self.parameters(k)]
        self._optimizer = optimizer.build(every) if every else None
        self._on_course: list[tuple[dict[str, Any], float, int]] = []
        """Groups whose rate changes from step to step, with their rate and their lead in steps."""
        self._clipped: list[list[nn.Parameter]] = []
        """The parameters of each block whose gradients are clipped."""

    def parameters(self, block: int) -> list[nn.Parameter]:
        """Those of one block that are trained."""
        return [p for parameters, _ in self._groups[block] for p in parameters]

    def begin(self, plan: Plan, training: Sequence[int]) -> None:
        """Groups the parameters of the blocks that train by their learning rate in this epoch."""
        if self._optimizer is None:
            return
        course, decay = self._lr.course, self._spec.options.get("weight_decay", 0.0)
        shared = {k: v for k, v in self._optimizer.param_groups[0].items() if k not in ("params", "lr")}
        grouped: dict[tuple[float, int, float], list[nn.Parameter]] = {}
        for k in training:
            lead = 0 if course.is_constant else (plan.lr_epochs[k] - plan.epoch) * course.steps_per_epoch
            for parameters, scale in self._groups[k]:
                rate = self._lr.at(plan.lr_epochs[k]) * scale
                for p in parameters:
                    grouped.setdefault((rate, lead, decay if self._decays(p) else 0.0), []).append(p)
        groups: list[dict[str, Any]] = []
        for (rate, _, own), some in grouped.items():
            own_decay = {"weight_decay": own} if "weight_decay" in shared else {}
            groups.append({**shared, **own_decay, "params": some, "lr": rate})
        self._on_course = [] if course.is_constant else [
            (group, rate, lead) for group, (rate, lead, _) in zip(groups, grouped, strict=True)
        ]  # fmt: skip
        self._clipped = [self.parameters(k) for k in training] if self._spec.clip else []
        # An empty group keeps the settings for the next epoch when nothing trains in this one.
        self._optimizer.param_groups = groups or [{**shared, "params": [], "lr": self._lr.at(0)}]

    def _decays(self, parameter: nn.Parameter) -> bool:
        """Weight decay is for this one, too."""
        return self._spec.decay_on == "all" or parameter.dim() > 1

    def step(self, step: int = 0) -> None:
        """Steps every parameter that has a gradient, and clears them.

        Args:
            step: of the run, counted from 0: the one whose batch the gradients are of.
        """
        if self._optimizer is None:
            return
        for parameters in self._clipped:
            # By 1 where the norm is within the bound: the same bits. A block decides by its own gradients alone.
            nn.utils.clip_grad_norm_(parameters, self._spec.clip, foreach=True)
        for group, rate, lead in self._on_course:
            group["lr"] = rate * self._lr.course.factor(step + lead)
        self._optimizer.step()
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def told(self, block: int) -> GateRow:
        """What the scores of a block's epoch say of its steps."""
        return {}

    def version(self, block: int) -> int:
        """Another one where a block's state has changed without a step."""
        return 0

    def capture(self, block: int) -> dict[str, Any]:
        """The optimizer's state of one block: ``place of the parameter/name``, tensors and plain numbers."""
        if self._optimizer is None:
            return {}
        return {
            f"{place}/{key}": value
            for place, parameter in enumerate(self.parameters(block))
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }

    def restore(self, block: int, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`capture` returned, before the first step.

        Raises:
            ValueError: the block has other parameters.
        """
        parameters = self.parameters(block)
        for name, value in state.items():
            place, _, key = name.partition("/")
            if self._optimizer is None or int(place) >= len(parameters):
                raise ValueError(f"block {block} trains {len(parameters)} parameters, and not number {place}")
            parameter = parameters[int(place)]
            on_device = key != "step" or bool(self._optimizer.defaults.get("fused"))
            if isinstance(value, Tensor):
                value = _like(value, parameter, on_device)
            self._optimizer.state[parameter][key] = value

    def num_bytes(self) -> int:
        """Bytes of the optimizer's state."""
        if self._optimizer is None:
            return 0
        tensors = (v for s in self._optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
        return sum(t.numel() * t.element_size() for t in tensors)


def _like(value: Tensor, parameter: Tensor, on_device: bool) -> Tensor:
    """A copy of ``value`` where torch would have put it: beside its parameter, in the parameter's own layout in
    memory, which fused kernels rely on. Without ``on_device`` it is a count of steps, which stays on the host."""
    if value.shape == parameter.shape and value.dim() > 0:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.clone() if not on_device else value.to(parameter.device, copy=True)
