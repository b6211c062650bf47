"""Cores and GPUs of this host, and those that torchrun's ranks see on theirs."""

import os
from collections import Counter
from dataclasses import dataclass

import psutil
import torch

__all__ = ["Host", "gpu_names", "this_host"]


@dataclass(frozen=True)
class Host:
    """Cores, GPUs and ranks to place stages on."""

    cores: int
    """Physical cores that this process may use."""
    num_gpus: int
    """CUDA devices of this host."""
    num_ranks: int = 1
    """Ranks that torchrun started in all; 1 without it."""
    ranks_here: int = 1
    """Ranks on this host."""
    host_of: tuple[int, ...] = ()
    """Each rank's host, as a number, as the ranks have told it; without, ``ranks_here`` after one another."""
    local_ranks: tuple[int, ...] = ()
    """Each rank's number among those that its torchrun agent has started; without, as ``host_of`` without."""
    gpus: tuple[tuple[str, ...], ...] = ()
    """Names of the GPUs that each rank sees, as the ranks have told them; without, each sees ``num_gpus``."""

    @property
    def hosts(self) -> tuple[int, ...]:
        """Each rank's host, as a number."""
        return self.host_of or tuple(rank // self.ranks_here for rank in range(self.num_ranks))

    @property
    def is_alone(self) -> bool:
        """Whether all ranks are on this host."""
        return len(set(self.hosts)) == 1

    @property
    def most_ranks(self) -> int:
        """Ranks on the host that has most of them."""
        return max(Counter(self.hosts).values())

    @property
    def is_mixed(self) -> bool:
        """Whether there are several hosts, and several ranks on one of them."""
        return not self.is_alone and self.most_ranks > 1

    def host_of_process(self, process: int) -> int:
        """Number of a process's host."""
        return 0 if self.num_ranks == 1 else self.hosts[process]

    def gpus_seen(self, process: int) -> tuple[str, ...]:
        """Names of the GPUs that a process sees."""
        return self.gpus[process] if self.gpus else tuple(map(str, range(self.num_gpus)))

    def gpu_of(self, process: int) -> int:
        """Number of a process's GPU among those that it sees."""
        usual = process if self.num_ranks == 1 else process % self.most_ranks
        return (self.local_ranks[process] if self.local_ranks else usual) % len(self.gpus_seen(process))

    def gives_each_a_gpu(self, num_processes: int) -> bool:
        """Whether no two of so many processes share a GPU."""
        found = {(self.host_of_process(p), self.gpus_seen(p)[self.gpu_of(p)]) for p in range(num_processes)}
        return len(found) == num_processes


def gpu_names() -> tuple[str, ...]:
    """Names of the GPUs that this process sees, by which two processes of a host know whether they see the same one: as
    ``CUDA_VISIBLE_DEVICES`` has them, which may give each process a GPU of its own, else their numbers. To ask a GPU
    for its own name would take memory on it."""
    number = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:number]) if len(named) >= number else tuple(map(str, range(number)))


def this_host(
    num_ranks: int = 1, ranks_here: int = 1, host_of: tuple[int, ...] = (), local_ranks: tuple[int, ...] = (),
    gpus: tuple[tuple[str, ...], ...] = (),
) -> Host:  # fmt: skip
    """Count the cores that this process may use, and the GPUs; the rest is of :class:`Host`."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return Host(min(physical, allowed), torch.cuda.device_count(), num_ranks, ranks_here, host_of, local_ranks, gpus)
