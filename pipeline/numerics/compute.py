"""Threads and precision of a process, on which the rounding of products depends."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["compute_as", "set_compute"]


def set_compute(threads: int, precision: str, device: torch.device) -> None:
    """Set the threads and precision of this process to those of the run's config.

    Args:
        threads: compute threads; products round differently on one and on two.
        precision: precision of float32 products, see ``torch.set_float32_matmul_precision``.
        device: device of the process.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = precision != "highest"


@contextmanager
def compute_as(threads: int, precision: str, device: torch.device) -> Iterator[None]:
    """Context under :func:`set_compute`, which restores the caller's settings at its end."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    try:
        set_compute(threads, precision, device)
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = cudnn
