"""A command in a process of its own: started, asked whether it has ended, ended in order.

A process of its own, because that is what a user starts, several can run at once, and one that hangs can be ended.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workers.host.environment import ROOT

__all__ = ["Child", "launch_command"]

_ENDING_S = 10.0
"""Time that a run and its stages have to end after SIGTERM."""
_START = """
import sys
sys.path.insert(0, {root!r})
from workers.host.parent import die_with_parent
die_with_parent({parent})
import launch
sys.argv[0] = "launch.py"
launch.command()
"""


def launch_command(arguments: Sequence[str]) -> list[str]:
    """The words that start ``launch.py`` with these arguments, as a child that does not outlive this process."""
    return [sys.executable, "-P", "-c", _START.format(root=str(ROOT), parent=os.getpid()), *arguments]


class Child:
    """A command that has been started. Its session is its own: Ctrl-C reaches this program alone, which ends it.

    Args:
        command: its words.
        errors: file for what it writes to standard error.
        cwd: its folder; None for this process's own.
    """

    def __init__(self, command: Sequence[str], errors: Path, cwd: Path | None = None) -> None:
        self._errors = errors
        self._began = time.monotonic()
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def elapsed_s(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    def poll(self) -> int | None:
        """Its exit status; None while it goes on."""
        return self._process.poll()

    def tell(self) -> None:
        """Has it told to end, and does not wait."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self) -> None:
        """The command first, which stops what it has started; what is left of its session after that is killed."""
        self.tell()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def said(self) -> str:
        """The last line of what it wrote on its way out, which is its error."""
        lines = [x for x in self._errors.read_text(encoding="utf8", errors="replace").splitlines() if x.strip()]
        return lines[-1].strip()[:2000] if lines else ""
