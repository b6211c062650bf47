"""A network whose blocks speak float64 to each other, by dotted name."""

from torch import nn


class Double(nn.Module):
    def forward(self, x):
        return x.double()


class FromDouble(nn.Linear):
    def forward(self, x):
        return super().forward(x.float())


def build():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), Double(), FromDouble(16, 16), nn.ReLU(), nn.Linear(16, 10)
    )
