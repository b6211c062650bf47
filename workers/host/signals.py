"""Signals that wait while something is finished that must not be left half done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["signals_held"]

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_held() -> Iterator[None]:
    """Runs its body to the end and only then acts on an interrupt, a termination or a hang-up that came meanwhile.

    Handlers are swapped and not the signal mask: Python runs handlers in the main thread whichever thread the system
    wakes. In another thread nothing has to be held, for no handler runs there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in _HELD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
