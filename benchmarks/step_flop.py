"""Floating-point operations of a training step, counted without training.

One step of every block runs on tensors that have shapes and no values, and torch's own counter adds up the products:
those of layers, of read-outs and of attention, in which every query meets every key, also those that the causal mask
takes away; forward and backward, two operations for a multiplication and an addition. Norms, activations, losses and
the optimizer are no products. Counted is the step in float32: under autocast a layer behind a norm at the input of a
block has one product more, see :func:`pipeline.models._normed_linear.normed_linear`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.engine.build import build_rules
from pipeline.learning.rule import LearningRule, Topology
from pipeline.planning.block_costs import learned
from pipeline.resolve import RunSpec

__all__ = ["full_batch", "rules_of", "step_flop"]


def step_flop(resolved: RunSpec) -> tuple[list[int], list[int]]:
    """Operations of every block in one step on a full batch, and those of one forward and backward pass through it."""
    rules = [*rules_of(resolved, torch.device("meta"))]
    inputs, contexts = [], []
    total = [0] * len(rules)
    x, y = full_batch(resolved, torch.device("meta"))
    for k, rule in enumerate(rules):
        inputs.append(x)
        with FlopCounterMode(display=False) as counter:
            x, context = rule(x, y)
        contexts.append(context)
        total[k] += counter.get_total_flops()
    feedback: tuple[Tensor, ...] = ()
    for k in reversed(range(len(rules))):
        with FlopCounterMode(display=False) as counter:
            feedback = learned(rules[k], contexts[k], feedback) or feedback
        total[k] += counter.get_total_flops()
    return total, [_pass_flop(rule, x) for rule, x in zip(rules, inputs, strict=True)]


def _pass_flop(rule: LearningRule, x: Tensor) -> int:
    """Operations of one forward and one backward pass through a block; of the gradient of its input where a rule has
    gradients go from block to block."""
    hands_down = rule.topology is Topology.NEIGHBOUR and not rule.spec.is_first
    x = x.detach().requires_grad_(hands_down)
    with FlopCounterMode(display=False) as counter:
        out = rule.block(x)
        torch.autograd.backward(out, torch.zeros_like(out))
    return int(counter.get_total_flops())


def rules_of(resolved: RunSpec, device: torch.device) -> Iterator[LearningRule]:
    """The blocks under their rules, as they train, made on ``device``: some keep hold of their parameters."""
    with device:
        rules = build_rules(resolved, resolved.blueprints, range(resolved.num_blocks), device)
    for rule in rules:
        yield rule.train()


def full_batch(resolved: RunSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """A full batch of the same symbol everywhere, and its labels."""
    rows, task = resolved.microbatch_size, resolved.specs[0].task
    x = torch.zeros(rows, *resolved.data.input_shape, dtype=resolved.data.input_dtype, device=device)
    return x, torch.zeros(rows, *task.label_shape, dtype=task.label_dtype, device=device)
