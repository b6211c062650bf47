"""Threads and number formats of a process: what a product rounds like depends on them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["compute_as", "set_compute"]


def set_compute(threads: int, precision: str, device: torch.device) -> None:
    """Makes this process compute as the run's config says, from now on.

    Args:
        threads: compute threads; products round differently on one and on two.
        precision: of float32 products, see ``torch.set_float32_matmul_precision``.
        device: where the process computes; on CUDA it becomes the current one. Without an index (``cuda``) the current
            one stays: ``torch.cuda.set_device`` refuses it.
    """
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


@contextmanager
def compute_as(threads: int, precision: str, device: torch.device) -> Iterator[None]:
    """Runs its body under :func:`set_compute` and puts everything back: the process is the caller's."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    current = torch.cuda.current_device() if device.type == "cuda" else None
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            set_compute(threads, precision, device)
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        if current is not None:
            torch.cuda.set_device(current)
