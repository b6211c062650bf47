"""Processes of one compute thread, mostly two, that measure something between them.

They are forked as stages are, from a server that has torch loaded. Every wait has an end: those that are not done in
time are stopped, and reported as such.
"""

import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from workers.host.allocator import keep_freed_memory
from workers.host.fork_server import process_context

__all__ = ["run_group", "run_pair"]

_GRACE_S = 2.0


def run_pair(function: Callable[..., Any], *args: Any, timeout_s: float = 60.0) -> Any:
    """Calls ``function(index, peer, *args)`` in two processes at once, ``index`` 0 and 1.

    Args:
        function: at the top level of a module; ``peer`` is its end of a pipe to the other process.
        args: picklable, or a queue of :func:`process_context`.
        timeout_s: for both to return, in seconds.

    Returns:
        What the process of index 0 returned.

    Raises:
        RuntimeError: one of them raised, died, or was not done in time.
    """
    ends = process_context().Pipe()
    return run_group(function, [(end, *args) for end in ends], timeout_s=timeout_s)


def run_group(function: Callable[..., Any], each: Sequence[tuple[Any, ...]], *, timeout_s: float) -> Any:
    """Calls ``function(index, *each[index])`` in as many processes at once as ``each`` has entries.

    Args:
        function: at the top level of a module.
        each: arguments of each process, as those of :func:`run_pair`; ends of pipes among them are closed here.
        timeout_s: for all to return, in seconds.

    Returns:
        What the process of index 0 returned.

    Raises:
        RuntimeError: one of them raised, died, or was not done in time.
    """
    context: Any = process_context()
    processes: list[BaseProcess] = []
    answers: dict[Any, int] = {}
    try:
        for index, args in enumerate(each):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(there, index, function, args), daemon=True)
            process.start()
            processes.append(process)
            answers[here] = index
            for end in (there, *(arg for arg in args if isinstance(arg, Connection))):
                end.close()
        return _collect(answers, time.monotonic() + timeout_s, timeout_s)
    finally:
        _end(processes)
        for here in answers:
            here.close()


def _collect(answers: dict[Any, int], deadline: float, timeout_s: float) -> Any:
    """Return value of process 0, once all have returned; ``answers`` are pipes, each with its process's index."""
    found: dict[int, Any] = {}
    while len(found) < len(answers):
        ready = wait([c for c, i in answers.items() if i not in found], max(deadline - time.monotonic(), 0.0))
        if not ready:
            missing = ", ".join(str(i) for i in answers.values() if i not in found)
            raise RuntimeError(f"processes that measure together hung (given: no answer of process {missing} within "
                               f"{timeout_s:g} s). See what it waits for.")  # fmt: skip
        connection: Any
        for connection in ready:
            index = answers[connection]
            try:
                found[index], error = connection.recv()
            except EOFError:
                error = "it died"
            if error:
                raise RuntimeError(
                    f"processes that measure together failed (given: process {index}; it says: {error}). "
                    "Fix that error."
                )
    return found[0]


def _end(processes: list[BaseProcess]) -> None:
    """Join the processes; kill those that do not end."""
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.01))
        if process.is_alive():
            process.kill()
            process.join(_GRACE_S)


def _child(answer: Connection, index: int, function: Callable[..., Any], args: Any) -> None:
    """Runs in the process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        answer.send((function(index, *args), None))
    except BaseException:
        answer.send((None, traceback.format_exc()))
