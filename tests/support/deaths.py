"""Stops and kills the processes of real runs, and measures who says what when; what is left afterwards is named.

``python -m tests.support.deaths --rounds 50`` prints a row for each round and a summary.
"""

import argparse
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.support.command import start, started

from workers.host.folders import remove_orphans

LONG = ["train.epochs=100000", "run.predict=false"]
OURS = ("onward-", "pymp-", "listener-")


@dataclass
class Outcome:
    """What became of a run whose processes were stopped or killed."""

    named_s: float | None = None
    """Until the line that names the stage."""
    line: str = ""
    gone_s: float | None = None
    """Until no process of the run was left."""
    left: list[str] = field(default_factory=list)
    """Processes after ``limit_s``; folders and sockets after the next start."""
    code: int | None = None
    report: str = ""
    """Everything on standard error."""


class Victim:
    """A run in a temporary folder of its own.

    Args:
        num_stages: of it.
        transport: its name.
        torchrun: whether its stages are ranks.
    """

    def __init__(self, num_stages, transport="shared_memory", torchrun=False):
        self.folder = Path(tempfile.mkdtemp(prefix="d"))
        (self.folder / "t").mkdir()
        arguments = ["--out", self.folder / "run", "--transport", transport, *LONG]
        if not torchrun:
            arguments += ["--stages", num_stages]
        self.process = start(
            *arguments, ranks=num_stages if torchrun else None, env={"TMPDIR": str(self.folder / "t")}
        )
        self._lines = queue.Queue()
        self._readers = [threading.Thread(target=t, daemon=True) for t in (self._read, self.process.stdout.read)]
        for reader in self._readers:
            reader.start()
        self.wait_for_epoch()
        self.all = [self.root, *self.root.children(recursive=True)]
        ranks = [p for p in self.root.children() if "RANK" in environment(p)]
        if torchrun:
            self.stages = sorted(ranks, key=lambda p: int(environment(p)["RANK"]))
        else:
            self.server = next(p for p in self.root.children() if "forkserver" in " ".join(p.cmdline()))
            self.stages = sorted(self.server.children(), key=started)
        assert len(self.stages) == num_stages

    @property
    def root(self):
        return psutil.Process(self.process.pid)

    def _read(self):
        for line in self.process.stderr:
            self._lines.put((time.monotonic(), line))
        self._lines.put(None)

    def wait_for_epoch(self, within=90):
        record = self.folder / "run" / "record.jsonl"
        deadline = time.monotonic() + within
        while not (record.exists() and '"event": "epoch"' in record.read_text()):
            assert time.monotonic() < deadline and self.process.poll() is None, self.said()
            time.sleep(0.05)

    def said(self):
        lines = []
        while not self._lines.empty() and (item := self._lines.get()) is not None:
            lines.append(item[1])
        return "".join(lines)

    def result(self):
        path = self.folder / "run" / "result.json"
        return path.read_text() if path.exists() else ""

    def end(self, begun, stage=None, limit_s=20.0):
        """What becomes of it, ``begun`` being the moment of the deed and ``stage`` the one to be named."""
        outcome, lines, ended = Outcome(), [], False
        deadline = begun + limit_s
        while time.monotonic() < deadline:
            try:
                item = self._lines.get(timeout=0.02)
            except queue.Empty:
                item = ()
            ended = ended or item is None
            if item:
                lines.append(item[1])
                if stage is not None and outcome.named_s is None and "launch.py: [stage" in item[1]:
                    outcome.named_s, outcome.line = item[0] - begun, item[1].strip()
            if outcome.gone_s is None and not alive(self.all):
                outcome.gone_s = time.monotonic() - begun
            if outcome.gone_s is not None and ended:
                break
        outcome.left = [f"{p.pid} {p.status()} {' '.join(p.cmdline())[:60]}" for p in alive(self.all)]
        outcome.report = "".join(lines)
        self.clean(outcome)
        return outcome

    def clean(self, outcome):
        for p in alive(self.all):
            p.kill()
        outcome.code = self.process.wait(10)
        for reader, pipe in zip(self._readers, (self.process.stderr, self.process.stdout), strict=True):
            reader.join(10)
            pipe.close()
        outcome.left += self.orphans()
        shutil.rmtree(self.folder)

    def orphans(self):
        """Folders of ours that are left after the next start: that is when they are removed."""
        before, tempfile.tempdir = tempfile.tempdir, str(self.folder / "t")
        try:
            remove_orphans()
        finally:
            tempfile.tempdir = before
        return [str(p) for p in (self.folder / "t").rglob("*") if p.name.startswith(OURS) or p.is_socket()]


def environment(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def alive(processes):
    found = []
    for p in processes:
        try:
            if p.is_running() and p.status() != psutil.STATUS_ZOMBIE:
                found.append(p)
        except psutil.NoSuchProcess:
            continue
    return found


def stop(num_stages, stage, transport, torchrun):
    """SIGSTOP of one stage."""
    victim = Victim(num_stages, transport, torchrun)
    begun = time.monotonic()
    victim.stages[stage].send_signal(signal.SIGSTOP)
    return victim.end(begun, stage)


def kill(num_stages, whom, transport, torchrun, stopped):
    """SIGKILL of the parent, the agent or the fork server, where asked for with a stopped stage."""
    victim = Victim(num_stages, transport, torchrun)
    if stopped:
        victim.stages[-1].send_signal(signal.SIGSTOP)
        time.sleep(0.5)
    begun = time.monotonic()
    (victim.server if whom == "server" else victim.root).kill()
    return victim.end(begun, 0 if whom == "server" else None)


def rows(rounds):
    """One round after the other: the deed, its outcome, and whether it is the promised one."""
    stops = [(n, s, t, r) for r in (False, True) for t in ("shared_memory", "process_group")
             for n in (2, 3) for s in range(n)]  # fmt: skip
    kills = [(whom, t, r, stopped) for whom, r in (("parent", False), ("server", False), ("agent", True))
             for t in ("shared_memory", "process_group") for stopped in (False, True)]  # fmt: skip
    for i in range(rounds):
        num_stages, stage, transport, torchrun = stops[i % len(stops)]
        found = stop(*stops[i % len(stops)])
        right = re.search(rf"launch.py: \[stage {stage}/{num_stages}\] its process was stopped", found.line)
        good = bool(right) and found.named_s <= 5.0 and (found.gone_s or 99) <= 10.0 and not found.left
        yield f"stop {stage}/{num_stages} {transport} {'torchrun' if torchrun else 'launch'}", found, good
    for i in range(rounds):
        whom, transport, torchrun, stopped = kills[i % len(kills)]
        found = kill(2, whom, transport, torchrun, stopped)
        good = (found.gone_s or 99) <= 5.0 and not found.left
        yield f"kill {whom} {transport}{' with a stopped stage' if stopped else ''}", found, good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    total = failed = 0
    for deed, found, good in rows(options.rounds):
        total, failed = total + 1, failed + (not good)
        named = "-" if found.named_s is None else f"{found.named_s:.1f}"
        gone = "-" if found.gone_s is None else f"{found.gone_s:.1f}"
        print(f"{'ok ' if good else 'BAD'} named {named:>4} s gone {gone:>4} s  {deed}", *found.left, flush=True)
        if not good:
            print(found.line, found.report[-3000:], flush=True)
    print(f"{total - failed} of {total} as promised")
    return int(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("ONWARD_CACHE", tempfile.mkdtemp(prefix="cache"))
    sys.exit(main())
