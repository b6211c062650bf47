"""SHA-256 digests of weights, to compare runs bit for bit."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["combine", "digest"]


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of one block's parameters and buffers, in their order."""
    total = hashlib.sha256()
    for name, tensor in state.items():
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def combine(digests: Sequence[str]) -> str:
    """SHA-256 over the digests of all blocks in block order: each stage can hash its own blocks."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
