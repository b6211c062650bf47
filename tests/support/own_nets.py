"""Networks of a user's own, by dotted name and as objects, for 6 x 6 images of 4 classes."""

from collections import OrderedDict

import torch
from torch import nn


class Scaled(nn.Module):
    """Has a buffer that no state knows, a persistent one, and a plain attribute."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 24), persistent=False)
        self.register_buffer("shift", torch.full((24,), 0.25))
        self.power = 1.5

    def forward(self, x):
        return x * self.scale * self.power + self.shift


class Residual(nn.Module):
    """One block, whose two layers share their weight."""

    def __init__(self, width=24):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, x):
        return x + self.second(torch.tanh(self.first(x)))


def named():
    return nn.Sequential(OrderedDict(
        flat=nn.Flatten(), stem=nn.Linear(36, 24), scaled=Scaled(), act=nn.ReLU(inplace=True),
        blocks=nn.Sequential(Residual(), nn.BatchNorm1d(24), nn.Dropout(0.2)), head=nn.Linear(24, 4),
    ))  # fmt: skip


class Noise(nn.Module):
    """Draws in evaluation, too."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def noisy():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.Tanh(), Noise(), nn.Linear(24, 4), Noise())


def parts():
    return [nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh()), nn.Linear(16, 4)]


instance = named()


def narrow():
    net = named()
    net.head = nn.Sequential(nn.Linear(24, 8), nn.Linear(8, 4))
    return net


def _normed(norm):
    return nn.Sequential(nn.Flatten(), norm(nn.Linear(36, 16)), nn.ReLU(), nn.Linear(16, 4))


def weight_normed():
    return _normed(nn.utils.parametrizations.weight_norm)


def spectrally_normed():
    return _normed(nn.utils.parametrizations.spectral_norm)


def normed_by_hooks():
    """As torch did it before it had parametrisations: no copy of it can be made."""
    return _normed(nn.utils.weight_norm)
