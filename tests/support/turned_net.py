"""A network whose blocks hand on views of what they have computed, in another order than it lies in memory."""

from torch import nn


class Turned(nn.Module):
    """A linear layer over the last axis, which then changes places with the one before."""

    def __init__(self, num_in, num_out):
        super().__init__()
        self.layer = nn.Linear(num_in, num_out)

    def forward(self, x):
        return self.layer(x).tanh().transpose(1, 2)


def small():
    """Of digits as (rows, columns): a block, and three more."""
    return nn.Sequential(
        nn.Sequential(nn.Flatten(1, 2), Turned(8, 9)), Turned(8, 7), Turned(9, 6),
        nn.Sequential(nn.Flatten(), nn.Linear(42, 10)),
    )  # fmt: skip
