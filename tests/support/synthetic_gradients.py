"""A rule that learns at once and again when the message comes (Jaderberg 2016), to hold the contract to its word."""

import torch
from torch import nn

from pipeline.learning.rule import Learned, LearningRule, Topology


class SyntheticGradients(LearningRule):
    """A linear predictor of the gradient at the block's output, trained at twice the block's learning rate."""

    topology = Topology.NEIGHBOUR

    def __init__(self, block, spec):
        super().__init__(block, spec)
        size = spec.out_shape[0]
        self.predictor = nn.Linear(size, size) if not spec.is_last else None

    @property
    def learns_at_once(self):
        return True

    def parameter_groups(self):
        predictor = [] if self.predictor is None else list(self.predictor.parameters())
        return [(list(self.block.parameters()), 1.0), (predictor, 2.0)]

    def forward(self, x, y):
        if self.training:
            x = x.detach().requires_grad_()
        out = self.block(x)
        return out.detach(), (x, out, y)

    def learn(self, context, feedback, *, weight=1.0):
        x, out, y = context
        if self.spec.is_last:
            loss = self.spec.task.loss(out, y)
            (loss * weight).backward()
            return Learned(loss.detach(), (x.grad,))
        if feedback:  # the second time: the predictor learns what the gradient was
            loss = (self.predictor(out.detach()) - feedback[0]).square().sum(1).mean()
            loss.backward()
            return Learned(loss.detach())
        with torch.no_grad():
            guess = self.predictor(out)
        torch.autograd.backward(out, guess)
        return Learned(None, (x.grad,) if not self.spec.is_first else ())

    def decode(self, context):
        return context[1].detach() if self.spec.is_last else None


def build(block, spec):
    return SyntheticGradients(block, spec)
