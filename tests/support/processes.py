"""Runs one function in several processes and brings back what each returned, raised, or died of.

A fork server that has torch loaded starts a process in a few hundredths of a second; every wait has an end, and
any process left when it comes is killed by its id.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from typing import Any

import psutil

from workers.host.fork_server import warm_up

__all__ = ["Outcome", "left_running", "results", "run_stages", "sign", "wait_for"]

_context = multiprocessing.get_context("forkserver")


@dataclass
class Outcome:
    """What became of one process."""

    value: Any = None
    error: str | None = None
    """Its traceback, or why there is none."""
    exitcode: int | None = None


def run_stages(function, num_stages, folder, *args, timeout=30.0):
    """Calls ``function(stage_index, folder, *args)`` in ``num_stages`` processes at once; an Outcome for each."""
    warm_up("digits")  # one fork server serves the whole session, these processes and the stages of runs
    processes, pipes, outcomes = [], {}, [Outcome(error="it returned nothing") for _ in range(num_stages)]
    for stage_index in range(num_stages):
        ours, theirs = _context.Pipe(duplex=False)
        process = _context.Process(target=_child, args=(theirs, function, stage_index, str(folder), args))
        process.start()
        theirs.close()
        processes.append(process)
        pipes[ours] = stage_index
    deadline = time.monotonic() + timeout
    try:
        while pipes:
            ready = multiprocessing.connection.wait(list(pipes), max(deadline - time.monotonic(), 0.0))
            if not ready:
                for stage_index in pipes.values():
                    outcomes[stage_index].error = f"it was not done after {timeout} s"
                break
            for pipe in ready:
                stage_index = pipes.pop(pipe)
                try:
                    outcomes[stage_index] = Outcome(*pipe.recv())
                except EOFError:
                    outcomes[stage_index].error = "it died"
                pipe.close()
    finally:
        for outcome, process in zip(outcomes, processes):
            process.join(max(deadline - time.monotonic(), 1.0))
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
            outcome.exitcode = process.exitcode
            process.close()
    return outcomes


def results(function, num_stages, folder, *args, timeout=30.0):
    """As :func:`run_stages`, where every process is to return: their values."""
    outcomes = run_stages(function, num_stages, folder, *args, timeout=timeout)
    failed = [f"[stage {i}] {o.error}" for i, o in enumerate(outcomes) if o.error]
    assert not failed, "\n".join(failed)
    assert [o.exitcode for o in outcomes] == [0] * num_stages
    return [o.value for o in outcomes]


def left_running():
    """Processes under this one, the two servers of multiprocessing left out, that do not end within a moment."""
    servers = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}
    children = [p for p in psutil.Process().children(recursive=True) if p.pid not in servers]
    return psutil.wait_procs(children, timeout=5.0)[1]


def wait_for(folder, name):
    """Waits for the :func:`sign` of another process."""
    path = os.path.join(folder, name)
    for _ in range(2000):
        if os.path.exists(path):
            os.unlink(path)
            return
        time.sleep(0.01)
    raise AssertionError(f"no {name}")


def sign(folder, name):
    """A sign to another process that does not use the transport."""
    open(os.path.join(folder, name), "w").close()


def _child(pipe, function, stage_index, folder, args):
    """Runs in the process."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    try:
        pipe.send((function(stage_index, folder, *args), None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))
    pipe.close()
