"""Networks with a block that raises, by dotted name."""

import torch
from torch import nn


class RaisesAlways(nn.Module):
    def forward(self, x):
        raise RuntimeError("this block is broken")


class RaisesInTraining(nn.Module):
    """Passes every check before the run, and a few batches."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        if self.training and not torch.is_grad_enabled():
            raise AssertionError("frozen blocks are in evaluation mode")
        self.seen += self.training
        if self.seen > 5 + 20:  # past the batches on which blocks are measured
            raise RuntimeError("this block breaks down in training")
        return x


def always():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), RaisesAlways(),
                         nn.Linear(32, 10))  # fmt: skip


def in_training():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), RaisesInTraining(),
                         nn.Linear(32, 10))  # fmt: skip
