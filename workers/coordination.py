"""What rank 0's two threads tell each other: the main one, which runs stage 0, and the coordinator's."""

import signal
import threading
from collections.abc import Callable

from pipeline.errors import WorkerFailed
from workers.coordinator import Coordinator

__all__ = ["Coordination"]

_NOTICE_S = 1.0
"""Seconds that the main thread has to notice an interrupt."""
_REPORT_S = 10.0
"""Longest wait for the coordinator's word on a failure of this process's own stage."""
_LOOK_AGAIN_S = 1.0
"""Between two looks at whether the coordinator goes on."""
_VERDICT_S = 2.0
"""Longest wait for it when this process was told to end: torchrun tells all ranks as soon as one has died."""


class Coordination:
    """The coordinator in a thread beside this process's own stage, once :meth:`start` is called.

    When it fails, the main thread may be waiting for a neighbour that is gone. An interrupt ends any wait in Python,
    so it interrupts the main thread, unless that has noticed by itself. A wait inside torch is not interrupted: then
    ``give_up`` ends the process.
    """

    def __init__(self, coordinator: Coordinator, give_up: Callable[[BaseException], None]) -> None:
        self._coordinator = coordinator
        self._give_up = give_up
        self._interrupted = threading.Event()
        self._failure: BaseException | None = None
        self._noticed = False
        signal.signal(signal.SIGINT, self._interrupt)
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)

    def start(self) -> None:
        """Starts the thread. From here on an interrupt may come, also where a stage has failed before: called where
        :meth:`cause` is asked about it."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._coordinator.run()
        except BaseException as error:
            self._failure = error
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if not self._interrupted.wait(_NOTICE_S):
                self._give_up(error)

    def terminate(self, number: int) -> None:
        """Give up unless the main thread notices that this process was told to end, by the signal ``number``."""
        if not self._interrupted.wait(_NOTICE_S):
            self._give_up(self._failure or SystemExit(128 + number))

    def _interrupt(self, *_: object) -> None:
        """Handle the interrupt, in the main thread: nothing comes between the test of the flag and the raise."""
        self._interrupted.set()
        if not self._noticed:
            raise KeyboardInterrupt

    def cause(self, error: BaseException) -> BaseException:
        """The coordinator's error where there is one, for it knows which stage failed first; else ``error``."""
        self._noticed = True
        self._interrupted.set()
        if isinstance(error, KeyboardInterrupt) and self._failure is None:
            return error  # the user's own
        if isinstance(error, SystemExit):  # of the user's, or because another rank has died
            self._thread.join(_VERDICT_S)
            return self._failure or error
        self._thread.join(_REPORT_S)
        return self._failure or error

    def join(self, timeout: float, num_stages: int) -> None:
        """Wait for the other stages, after this process's own has ended: as long as they go on, which the coordinator
        looks at. Queues that are full when this stage ends may take any time to be emptied.

        Args:
            timeout: longest time in seconds in which the coordinator does not look.
            num_stages: of the run.

        Raises:
            WorkerFailed: one failed, or nobody looks after them.
        """
        looked, left = self._coordinator.looked, timeout
        try:
            while left > 0.0 and self._thread.is_alive():
                self._thread.join(min(left, _LOOK_AGAIN_S))
                left = left - _LOOK_AGAIN_S if self._coordinator.looked == looked else timeout
                looked = self._coordinator.looked
        except (KeyboardInterrupt, SystemExit) as error:
            raise self.cause(error) from None
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise WorkerFailed(
                0, num_stages, f"its coordinator has not looked after the other stages for {timeout:.0f} s "
                "(run.timeout_s): a disk or a line may take nothing. Look at that of --out, or raise it.",
            )  # fmt: skip
