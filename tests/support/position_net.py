"""A stack of one's own over tokens: position by position, one linear layer in each block."""

from torch import nn


def build(input_shape, num_outputs):
    """Layers in an ``nn.Sequential``; the first block reads tokens."""
    first = nn.Sequential(nn.Embedding(256, 8), nn.Linear(8, 12), nn.Tanh())
    return nn.Sequential(first, nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, num_outputs))
