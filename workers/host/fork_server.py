"""Fork server for the stages: a process that has imported torch and done nothing else.

A stage then starts in tens of milliseconds, and never from a process that has run threads or CUDA. This module must
not import torch itself: the server is started while its parent is still importing.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

from workers.host.folders import claim_server_folder
from workers.host.server_start import PARENT

__all__ = ["process_context", "warm_up"]

_SHARED = (
    # The first backward pass from a given gradient imports it: .3 s in every stage.
    "torch.fx.experimental.symbolic_shapes",
    # What these import, most models and rules import: a hundredth of a second in every stage.
    "pipeline.models.mlp",
    "pipeline.rules.predsim",
)


def warm_up(dataset: str) -> None:
    """Start the fork server, which imports torch while this process goes on to check the config.

    Args:
        dataset: name of the data set, for what else is worth importing once.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    modules = ["workers.host.server_start", "workers.launchers.processes", *_SHARED]
    if dataset == "digits":
        modules.append("sklearn.datasets")  # a second, as long as the whole default run
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    # The server looks for modules where a fresh interpreter would, which need not be where this one found them.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    # The kernel ends the server with the thread that started it; another thread may end before the run does.
    if threading.current_thread() is threading.main_thread():
        os.environ[PARENT] = str(os.getpid())
    # Ctrl-C reaches the whole terminal group. The server ignores it once it has imported torch; blocked, it does
    # from its first moment, and here it is delivered as soon as the block is lifted. Starting the resource tracker,
    # which the server needs, lifts the block, so that comes first.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
        claim_server_folder()
    finally:
        os.environ.pop(PARENT, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def process_context() -> BaseContext:
    """``multiprocessing`` context of the fork server, or of ``spawn`` where there is none."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
