"""Signals that wait while something is finished that must not be left half done, and one that cannot wait."""

import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["end_on_signals", "on_termination", "signals_held"]

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


def on_termination(deed: Callable[[int], None]) -> None:
    """Have ``deed`` called with the number of a signal that ends this process, on a thread of its own.

    Python runs the signal's handler in the main thread, which may be inside torch for as long as it likes. To be
    called in the main thread, where SIGTERM and SIGHUP have handlers.
    """
    hear, say = socket.socketpair()
    say.setblocking(False)

    def listen() -> None:
        """Body of the thread; Python writes the number of each signal to the other end of the pair."""
        with hear, say:  # kept open for as long as the thread runs
            while data := hear.recv(1):
                if data[0] in (signal.SIGTERM, signal.SIGHUP):
                    deed(data[0])

    signal.set_wakeup_fd(say.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=listen, name="termination", daemon=True).start()


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end the run in order. Under ``nohup`` the latter is ignored, and stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda given, _: sys.exit(128 + given))
