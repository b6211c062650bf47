"""The processes of an arm that has several, and their process group.

They are forked from a process that has imported torch and computed nothing, so that an arm starts in one import.
"""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.arms.job import ArmJob
from workers.host.interfaces import use_interface

__all__ = ["Rank", "run_ranks"]


@dataclass(frozen=True)
class Rank:
    """One of the processes, in its process group."""

    index: int
    size: int
    device: torch.device

    def agree(self, count: int) -> int:
        """Rank 0's ``count``."""
        shared = torch.tensor([count], dtype=torch.int64, device=self.device)
        dist.broadcast(shared, 0)
        return int(shared.item())

    def total(self, value: float) -> float:
        """The sum of all ranks' ``value``."""
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return shared.item()


Target = Callable[[ArmJob, Rank], dict[str, Any]]


def run_ranks(target: Target, job: ArmJob) -> dict[str, Any]:
    """Runs ``target`` in ``job.processes`` processes and returns what rank 0's returned.

    Raises:
        SystemExit: a rank failed; with the first failure's text.
    """
    context = multiprocessing.get_context("fork")
    processes, receivers = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(job.processes):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(target, job, index, folder, sender), daemon=True)
            process.start()
            sender.close()  # here, so that a rank that dies is an end of file
            processes.append(process)
            receivers.append(receiver)
        try:
            found = _collect(receivers)
            for process in processes:
                process.join()
        finally:
            for process in processes:
                process.kill()
    return found[0]


def _collect(receivers: list[Connection]) -> dict[int, dict[str, Any]]:
    """Return value of each rank; stops at the first failure."""
    found: dict[int, dict[str, Any]] = {}
    while len(found) < len(receivers):
        for ready in wait([r for k, r in enumerate(receivers) if k not in found]):
            index = receivers.index(ready)  # type: ignore[arg-type]
            try:
                is_right, value = receivers[index].recv()
            except EOFError:
                is_right, value = False, "died"
            if not is_right:
                raise SystemExit(f"rank {index}: {value}")
            found[index] = value
    return found


def _serve(target: Target, job: ArmJob, index: int, folder: str, sender: Connection) -> None:
    """Run ``target`` in the process of a rank and send what it returned."""
    try:
        rank = _meet(job, index, folder)
        sender.send((True, target(job, rank)))
        dist.destroy_process_group()
    except Exception as error:
        lines = str(error).splitlines() or [""]
        sender.send((False, f"{type(error).__name__}: {lines[0]}"))


def _meet(job: ArmJob, index: int, folder: str) -> Rank:
    """Opens the process group through a file, over the loopback interface or between the job's hosts."""
    device = torch.device("cpu")
    if job.preset.device == "cuda":
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    if job.hosts:
        job.hosts[index].enter()
        use_interface(job.hosts[index].address)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", init_method=f"file://{folder}/meeting", rank=index,
        world_size=job.processes,
    )  # fmt: skip
    return Rank(index, job.processes, device)
