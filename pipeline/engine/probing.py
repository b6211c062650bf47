"""The program of a stage in a run with a probe: a few samples that pass all blocks every so many steps.

The probe flows forward over the wires of the pipeline, behind the batches that have been sent and in front of the next
one, so that every block meets it between the same two of its own steps. It is run in evaluation mode and nothing is
learned from it. No stage waits for it: it comes in front of a batch that the stage would wait for anyway.
"""

from collections.abc import Generator, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.engine.gated_stepper import GatedStepper
from pipeline.engine.gates import Gate
from pipeline.engine.message import Kind
from pipeline.engine.program import Program
from pipeline.engine.requests import Request
from pipeline.records.time_budget import Activity
from pipeline.schedules.plan import Plan
from pipeline.schedules.position import Position
from pipeline.schedules.probe import Probe

__all__ = ["ProbingProgram"]


class ProbingProgram(Program):
    """See the module's docstring; whether blocks wait for feedback changes nothing.

    Args:
        arguments, options: see :class:`Program`.
        probe: of the run.
    """

    def __init__(self, *arguments: Any, probe: Probe, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._probe = probe
        self._samples: tuple[Tensor, Tensor] | None = None
        self._mode = _Mode(self.stage.rules.values())

    def _forward(self, plan: Plan, position: Position) -> Generator[Request, Any, None]:
        """See :class:`Program`; first the probe, where it is due."""
        if position.step % self._probe.every == 0 and position.microbatch == 0:
            yield from self._pass_probe(plan, position)
        yield from super()._forward(plan, position)

    def _pass_probe(self, plan: Plan, position: Position) -> Generator[Request, Any, None]:
        """The probe, through the blocks of this stage."""
        if plan.source in self.stage.blocks:
            self.budget.enter(Activity.TRANSFER)
            x, y = self._drawn(plan)
        else:
            x, y = (yield from self._receive(self.stage_index - 1, Kind.PROBE, position)).tensors
        self.budget.enter(Activity.EVAL)
        out = self._observed(position.step, x, y)
        if plan.goes_beyond(self.stage.blocks):
            yield self._send(self.stage_index + 1, Kind.PROBE, position, (out, y))

    def _observed(self, step: int, x: Tensor, y: Tensor) -> Tensor:
        """The blocks' output, in evaluation mode; the gate is shown each input as the block has it, and what comes out.

        A hook shows it, after whatever else changes an input: a wire format is applied inside a stage, too.
        """
        stepper = self.stage.stepper
        assert isinstance(stepper, GatedStepper), "a run with a probe has a gate"
        rules, gate = self.stage.rules, stepper.gate
        hooks = [rule.register_forward_pre_hook(partial(_show, gate, step, k)) for k, rule in rules.items()]
        if gate.watches_outputs:
            hooks += [rule.register_forward_hook(partial(_show_output, gate, step, k)) for k, rule in rules.items()]
        before = self._mode.evaluate()
        try:
            out, _ = self.stage.evaluation.forward(x, y, 0)
        finally:
            for hook in hooks:
                hook.remove()
        self._mode.put_back(before)
        for k, rule in rules.items():
            if gate.rests(k):
                rule.eval()
        return out

    def _drawn(self, plan: Plan) -> tuple[Tensor, Tensor]:
        """The samples of the probe and their labels: the first ones of the run's first epoch, as that has them."""
        if self._samples is None:
            count, size = self._probe.num_samples, self.batching.batch_size
            batches = [self._train_feeds.batch(plan.source, 0, index) for index in range(-(-count // size))]
            x, y = (torch.cat(parts)[:count].clone() for parts in zip(*batches, strict=True))
            self._samples = x, y
        return self._samples


class _Mode:
    """Puts blocks into evaluation mode and back, in a tenth of the time that ``eval`` and ``train`` take: the probe of
    a small network is over in a millisecond. Modules with a ``train`` of their own are asked.

    Args:
        rules: of the blocks.
    """

    def __init__(self, rules: Iterable[nn.Module]) -> None:
        self._flagged: list[dict[str, Any]] = []
        """What plain modules know of themselves, their mode among it."""
        self._asked: list[nn.Module] = []
        for rule in rules:
            modules = list(rule.modules())
            if all(type(m).train is nn.Module.train and type(m).eval is nn.Module.eval for m in modules):
                self._flagged += [vars(m) for m in modules]
            else:
                self._asked.append(rule)

    def evaluate(self) -> list[bool]:
        """Into evaluation mode. Returns: what :meth:`put_back` needs."""
        before = [known["training"] for known in self._flagged] + [rule.training for rule in self._asked]
        for known in self._flagged:
            known["training"] = False
        for rule in self._asked:
            rule.eval()
        return before

    def put_back(self, before: Sequence[bool]) -> None:
        """Back into the mode that each was in."""
        for known, training in zip(self._flagged, before[: len(self._flagged)], strict=True):
            known["training"] = training
        for rule, training in zip(self._asked, before[len(self._flagged) :], strict=True):
            rule.train(training)


def _show(gate: Gate, step: int, block: int, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """A hook in front of a block."""
    gate.observe(step, block, arguments[0])


def _show_output(
    gate: Gate, step: int, block: int, _: nn.Module, __: tuple[Tensor, ...], output: tuple[Tensor, Any]
) -> None:  # fmt: skip
    """A hook behind a block."""
    gate.observe_output(step, block, output[0])
