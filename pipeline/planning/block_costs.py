"""Costs of the blocks, measured on this machine: forward, learning and step, its own head included.

Parameter counts mislead where weights are shared over positions (convolutions) and where a rule's head is larger
than its block, so the default is to run each block once.
"""

import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from pipeline.data.synthetic import random_inputs, random_labels
from pipeline.engine.build import build_rules
from pipeline.engine.frozen import forward_frozen
from pipeline.learning.rule import LearningRule, Topology
from pipeline.numerics.autocast import autocast
from pipeline.numerics.compute import compute_as
from pipeline.numerics.memory_format import channels_last
from pipeline.planning.taken import Repeats, Taken, Watched, repeat
from pipeline.resolve import RunSpec

__all__ = ["block_seconds", "learned", "measure_blocks"]


def block_seconds(resolved: RunSpec, threads: int, device: torch.device) -> list[float]:
    """The seconds of :func:`measure_blocks`."""
    return measure_blocks(resolved, threads, device)[0]


def measure_blocks(resolved: RunSpec, threads: int, device: torch.device) -> tuple[list[float], Taken]:
    """Least seconds of one training step of each block at the run's micro-batch size, and how they were measured.

    Blocks are built one at a time, so that no more than one is in memory, from the last down: each is told what a
    block above has sent, whose form only the rule knows. Each takes two steps, and as many more as fit into a tenth of
    a second, up to fifteen.

    Args:
        resolved: the run.
        threads: compute threads that a stage will have.
        device: where its stages will run.
    """
    found: list[Repeats] = []
    feedback: tuple[Tensor, ...] = ()
    try:
        with compute_as(threads, resolved.config.run.matmul_precision, device):
            for k in reversed(range(resolved.num_blocks)):
                told = feedback if resolved.routes is None else _zeros(resolved, k, device)
                spent, sent = _measure(resolved, k, device, told)
                found.append(spent)
                feedback = sent or feedback  # a block that sends nothing is told what those below are: BROADCAST
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # this process may go on to share the GPU with stages
    return [spent.least_s for spent in reversed(found)], _taken(found, device)


def _taken(found: list[Repeats], device: torch.device) -> Taken:
    """How all blocks were measured; on a device, whose own time is none of a thread's, only when."""
    spreads = [spent.spread for spent in found if spent.spread is not None]
    whole = Watched(sum(each.watched.wall_s for each in found), sum(each.watched.cpu_s for each in found))
    return Taken(time.time(), whole.share if device.type == "cpu" else None, max(spreads, default=None))


def _zeros(resolved: RunSpec, block: int, device: torch.device) -> tuple[Tensor, ...]:
    """Feedback of the form that a block awaits, whatever is above it: a gradient or an error."""
    spec, rows = resolved.specs[block], resolved.microbatch_size
    assert resolved.routes is not None
    shape = spec.out_shape if resolved.routes.awaits_above(block) else spec.task.out_shape
    dtype = torch.bfloat16 if resolved.config.run.autocast != "none" else torch.float32
    return (torch.zeros(rows, *shape, dtype=dtype, device=device),)


def learned(rule: LearningRule, context: Any, feedback: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Has a block learn as a stage does: at once where it can, and when feedback has come where it waits for some;
    returns what it sends down, that which leaves first where both do."""
    sent: tuple[Tensor, ...] = ()
    if rule.learns_at_once:
        sent = rule.learn(context, ()).upstream
    waits = rule.topology is not Topology.LOCAL and not rule.spec.is_last
    if waits or not rule.learns_at_once:
        late = rule.learn(context, feedback).upstream
        sent = sent or late
    return sent


def _measure(
    resolved: RunSpec, index: int, device: torch.device, feedback: tuple[Tensor, ...]
) -> tuple[Repeats, tuple[Tensor, ...]]:
    """Seconds of one block, told ``feedback``; and what it sends down."""
    spec = resolved.specs[index]
    (rule,) = build_rules(resolved, resolved.blueprints[index : index + 1], range(index, index + 1), device)
    is_frozen, passes = index in resolved.frozen, index in resolved.passing
    rule.train(passes or not is_frozen)
    if passes:  # it runs as a block that trains, in evaluation mode
        rule.requires_grad_(False)
        rule.block.eval()
    parameters = [p for p in rule.parameters() if p.requires_grad and not is_frozen]
    optimizer = resolved.optimizer_of(index).build(parameters) if parameters else None
    rows = resolved.microbatch_size
    generator = torch.Generator().manual_seed(0)
    first = random_inputs(resolved.data, rows, generator) if index == 0 else None
    x = (torch.rand(rows, *spec.in_shape, generator=generator) if first is None else first).to(device)
    y = random_labels(spec.task, rows, generator).to(device)
    if resolved.config.run.channels_last:
        x = channels_last(x)

    sent: tuple[Tensor, ...] = ()

    def step() -> None:
        """One training step of the block; of a frozen one that passes nothing on, its way forward alone."""
        nonlocal sent
        if is_frozen and not passes:
            forward_frozen(rule, x, y, rows, channels_last=resolved.config.run.channels_last)
            return
        _, context = rule(x, y)
        sent = learned(rule, context, feedback)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with autocast(device) if resolved.config.run.autocast != "none" else nullcontext():
        return repeat(step, repeats=15, limit_s=0.1), sent
