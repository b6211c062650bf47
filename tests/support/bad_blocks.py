"""Networks with a block that raises or hangs, by dotted name."""

import time

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


class HangsInTraining(RaisesInTraining):
    """Raises where the other one does, after half a minute."""

    def forward(self, x):
        if self.seen >= 5 + 20:
            time.sleep(30.0)
        return super().forward(x)


def always():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), RaisesAlways(),
                         nn.Linear(32, 10))  # fmt: skip


def in_training():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), RaisesInTraining(),
                         nn.Linear(32, 10))  # fmt: skip


def hanging():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), HangsInTraining(),
                         nn.Linear(32, 10))  # fmt: skip
