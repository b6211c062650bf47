"""Runner of an arm, in processes of its own with a time limit: a hang costs its own figure and no other."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.arms.job import ArmJob

__all__ = ["Outcome", "Status", "last_line", "run", "supervise"]

Status = Literal["ok", "hang", "crash", "impossible"]

ENDING_S = 10.0
"""What was killed may need a moment."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """End of a run: status, figures, note."""

    status: Status
    table: dict[str, Any] = field(default_factory=dict)
    """Figures of the arm, where it ended in order."""
    note: str | None = None
    """Reason for any other end."""


def run(job: ArmJob, limit_s: float) -> Outcome:
    """Runs ``job`` in a session of its own, which is killed as a whole after ``limit_s`` seconds."""
    with tempfile.TemporaryDirectory(prefix="arm-") as name:
        folder = Path(name)
        (folder / "job.pickle").write_bytes(pickle.dumps(job))
        command = [sys.executable, "-m", "benchmarks.arms.child", name]
        code = supervise(command, _environment(folder, job), folder / "stderr", limit_s)
        if code is None:
            return Outcome("hang", note=f"no result after {limit_s:g} s")
        result = folder / "result.json"
        if code != 0 or not result.exists():
            text = (folder / "stderr").read_text(encoding="utf8", errors="replace")
            return Outcome("crash", note=last_line(text) or f"exit code {code}, nothing on stderr")
        return Outcome("ok", json.loads(result.read_text(encoding="utf8")))


def _environment(folder: Path, job: ArmJob) -> dict[str, str]:
    """Environment of the arm's processes; files of a killed arm are removed with the folder."""
    path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ, "OMP_NUM_THREADS": str(job.threads), "PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(folder),
    }  # fmt: skip


def supervise(command: Sequence[str], environment: Mapping[str, str], stderr: Path, limit_s: float) -> int | None:
    """Runs ``command`` in a session of its own; its exit code, or None where its time was over.

    Processes of the session that are left at the end are killed: an arm must not compute beside the next one.
    """
    with stderr.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=file,
        )  # fmt: skip
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # a handler that raises inside Popen.wait may leave its lock held
                process.wait(ENDING_S)


def last_line(text: str) -> str:
    """The last line that says something: torch adds warnings of its own when a process ends."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("[W", "[rank"))]
    return (said or lines or [""])[-1]
