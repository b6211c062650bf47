"""Synthetic gradients from a model that is right: it runs the last of two blocks, where both are in this process."""

import torch
from torch import nn

from pipeline.rules import dni

__all__ = ["build"]

_LAST = []
"""The rule of the newest last block: blocks are built from the first on, and asked when all are there."""


class Exact(nn.Module):
    """The derivative of each sample's loss by the last block's input, with its weights of now."""

    def __init__(self, task):
        super().__init__()
        self.task = task

    def forward(self, z, targets):
        labels = targets.argmax(1)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            loss = len(z) * self.task.loss(_LAST[-1].block(z), labels)
            return torch.autograd.grad(loss, z)[0]


class Untrained(dni.SyntheticGradients):
    """Is told what its model already knows."""

    def learn(self, context, feedback, *, weight=1.0):
        if feedback and not self.spec.is_last:
            assert feedback[0].shape == context[2].shape
            return dni.Learned(None)
        return super().learn(context, feedback, weight=weight)


def build(block, spec):
    assert spec.num_blocks == 2
    rule = Untrained(block, spec, lambda: Exact(spec.task), rate=1.0, mixing=0.0)
    if spec.is_last:
        _LAST.append(rule)
    return rule
