"""Two processes of one compute thread that measure something between them.

They are forked as stages are, from a server that has torch loaded. Every wait has an end: a pair that is not done in
time is stopped and reported as such.
"""

import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from workers.host.allocator import keep_freed_memory
from workers.host.fork_server import process_context

__all__ = ["run_pair"]

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
    context: Any = process_context()
    between = context.Pipe()
    processes: list[BaseProcess] = []
    answers: dict[Any, int] = {}
    try:
        for index in range(2):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(there, index, between[index], function, args), daemon=True)
            process.start()
            processes.append(process)
            answers[here] = index
            there.close()
            between[index].close()
        return _collect(answers, time.monotonic() + timeout_s, timeout_s)
    finally:
        _end(processes)
        for here in answers:
            here.close()


def _collect(answers: dict[Any, int], deadline: float, timeout_s: float) -> Any:
    """Return value of process 0, once both have returned; ``answers`` are pipes, each with its process's index."""
    found: dict[int, Any] = {}
    while len(found) < 2:
        ready = wait([c for c, i in answers.items() if i not in found], max(deadline - time.monotonic(), 0.0))
        if not ready:
            missing = ", ".join(str(i) for i in answers.values() if i not in found)
            raise RuntimeError(f"a pair of processes hung (given: no answer of process {missing} within "
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
                    f"a pair of processes failed (given: process {index}; it says: {error}). Fix that error."
                )
    return found[0]


def _end(processes: list[BaseProcess]) -> None:
    """Join both processes; kill those that do not end."""
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.01))
        if process.is_alive():
            process.kill()
            process.join(_GRACE_S)


def _child(answer: Connection, index: int, peer: Connection, function: Callable[..., Any], args: Any) -> None:
    """Runs in the process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        answer.send((function(index, peer, *args), None))
    except BaseException:
        answer.send((None, traceback.format_exc()))
