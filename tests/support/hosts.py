"""Hosts for tests: network namespaces on a switch of their own, each link as slow as it is asked to be.

    node0  eth0 ---- port0  switch  port1 ---- eth0  node1        10.77.0.1, 10.77.0.2, ...

A host has its own network, its own name, its own folder for temporary files, its own cache and its own disk for
``--out``, and knows the others by name; process ids and the files of the system are those of this machine. Rates are
those of ``tc tbf``, in both directions of each host's link. Nothing is added outside of these namespaces but their
files under ``/etc/netns``. Names hold the id and the start of the process that made them, so that the next start can
remove what a killed one has left. Needs root, and ``ip`` and ``tc`` of iproute2.
"""

import ctypes
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from workers.host.identity import ProcessIdentity
from workers.planner.links import PAYLOAD

__all__ = ["Host", "hosts", "why_not"]

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "onward-"
NAMES = re.compile(PREFIX + r"(?P<pid>\d+)-(?P<started>\d+)-\d+-\w+")
NETWORK, NETWORK_6 = "10.77.0.", "fd77::"
BURST_S = 600e-6
"""Seconds of its rate that a link lets pass at once, behind a pause. More is a gift to every message: with 64 KiB at
100 Mbit/s, half of one of 128 KiB. Less costs time of the processors that a network card would not take."""
PACKET, LONGEST = 2_000, 65_536
"""Bytes that pass at once at least, those of a packet of 1 514 and some; and of the longest row of packets that the
kernel handles as one. A row that is longer than what may pass, headers included, is cut into packets, each with a
timer: that made two stages at 100 Mbit/s slower by a tenth."""
LATENCY = "400ms"
"""Longest time that a packet waits in a shaped link; what would wait longer is dropped, and TCP slows down."""
CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x00020000, 0x1000, 0x4000, 0x40000
ENTERING = 'for disk in $HIDDEN; do mount -t tmpfs none "$disk"; done; hostname "$0"; exec "$@"'
ENTER = ["unshare", "--uts", "sh", "-c", ENTERING]
_numbers = count()


def why_not() -> str | None:
    """The reason why there can be no hosts here; None where there can."""
    if os.geteuid() != 0:
        return "hosts are network namespaces, which need root"
    missing = [name for name in ("ip", "tc", "unshare", "hostname") if shutil.which(name) is None]
    if missing:
        return f"hosts are network namespaces, which need {', '.join(missing)}"
    probe = f"{_own_prefix()}{next(_numbers)}-probe"
    try:
        _ip("netns", "add", probe)
        _ip("-n", probe, "link", "add", "br0", "type", "bridge")
        _ip("-n", probe, "link", "set", "br0", "gso_max_size", str(PACKET))
        _run("tc", "-n", probe, "qdisc", "add", "dev", "br0", "root", "tbf", *_tbf(1e6, PACKET))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = error.stderr if isinstance(error.stderr, str) else ""
        return f"hosts are network namespaces, and this system refuses one ({said.strip() or error})"
    finally:
        _remove(probe)
    return None


@dataclass(frozen=True)
class Host:
    """One host."""

    name: str
    address: str
    namespace: str
    switch: str
    port: str
    """Of the switch, at the other end of its link."""
    disk: Path
    """Nobody else's."""
    hidden: tuple[Path, ...]
    """Disks of the others, which are empty to it."""

    def environment(self) -> dict[str, str]:
        """Variables of a process on it, beside those of this one."""
        for name in ("tmp", "cache"):
            (self.disk / name).mkdir(exist_ok=True)
        return {"TMPDIR": str(self.disk / "tmp"), "ONWARD_CACHE": str(self.disk / "cache")}

    def start(
        self, *command: object, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> subprocess.Popen[str]:
        """Starts a command on it, with pipes, in a session of its own."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *ENTER, self.name, *map(str, command)], cwd=cwd, text=True,
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **self.environment(), "HIDDEN": " ".join(map(str, self.hidden)), **(env or {})},
        )  # fmt: skip

    def enter(self) -> None:
        """Moves this process to the host; only a process of one thread is moved as a whole."""
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            _check(libc.setns(descriptor, CLONE_NEWNET))
        finally:
            os.close(descriptor)
        _check(libc.unshare(CLONE_NEWUTS | CLONE_NEWNS))
        _check(libc.sethostname(self.name.encode(), len(self.name)))
        _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        _check(libc.mount(f"/etc/netns/{self.namespace}/hosts".encode(), b"/etc/hosts", None, MS_BIND, None))
        for disk in self.hidden:
            _check(libc.mount(b"none", str(disk).encode(), b"tmpfs", 0, None))
        os.environ.update(self.environment())
        tempfile.tempdir = vars(platform)["_uname_cache"] = None  # what this process may have asked for before

    def pids(self) -> list[int]:
        """Ids of the processes on it."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def kill(self) -> None:
        """Ends all of its processes at once."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def unplug(self) -> None:
        """Pulls its cable out of the switch: nothing arrives and nothing is said, as when a host vanishes."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug(self) -> None:
        """The opposite."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def shape(self, bits_per_s: float | None) -> None:
        """Gives both directions of its link a rate; None: no limit."""
        ends = ((self.namespace, "eth0"), (self.switch, self.port))
        for namespace, device in ends:
            burst = 2 * LONGEST if bits_per_s is None else max(PACKET, round(bits_per_s / 8 * BURST_S))
            _ip("-n", namespace, "link", "set", device, "gso_max_size", str(min(int(burst * PAYLOAD), LONGEST)))
            shaped = ["pfifo"] if bits_per_s is None else ["tbf", *_tbf(bits_per_s, burst)]
            _run("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", *shaped)


@contextmanager
def hosts(
    number: int, bits_per_s: float | None = None, *, ipv6: bool = False
) -> Iterator[list["Host"]]:
    """So many hosts, for as long as the body runs; then they and all of their processes are gone, whatever happens.

    Args:
        number: 2 to 4.
        bits_per_s: of each link; unlimited without.
        ipv6: their addresses, and what their names stand for, are of IPv6 alone.
    """
    remove_leftovers()
    prefix = f"{_own_prefix()}{next(_numbers)}-"
    disks = Path(tempfile.mkdtemp(prefix="hosts-"))  # short: paths of Unix sockets are
    names = [f"node{index}" for index in range(number)]
    for name in names:
        (disks / name).mkdir()
    try:
        _ip("netns", "add", f"{prefix}switch")
        _ip("-n", f"{prefix}switch", "link", "add", "br0", "type", "bridge")
        _ip("-n", f"{prefix}switch", "link", "set", "br0", "up")
        found = [_connected(prefix, index, names, disks, ipv6) for index in range(number)]
        for host in found if bits_per_s is not None else ():
            host.shape(bits_per_s)
        yield found
    finally:
        for name in [*names, "switch"]:
            _remove(prefix + name)
        shutil.rmtree(disks, ignore_errors=True)


def _connected(prefix: str, index: int, names: Sequence[str], disks: Path, ipv6: bool) -> Host:
    """A host, its link, and the file that names all of them."""
    name, namespace, switch, port = names[index], prefix + names[index], f"{prefix}switch", f"port{index}"
    hidden = tuple(disks / other for other in names if other != name)
    network, bits, localhost = (NETWORK_6, 64, "::1") if ipv6 else (NETWORK, 24, "127.0.0.1")
    host = Host(name, f"{network}{index + 1}", namespace, switch, port, disks / name, hidden)
    files = Path("/etc/netns") / namespace  # "ip netns exec" puts them in the place of those in /etc
    files.mkdir(parents=True)
    known = [f"{network}{i + 1} {other}" for i, other in enumerate(names)]
    (files / "hosts").write_text(f"{localhost} localhost\n" + "\n".join(known) + "\n", encoding="utf8")
    _ip("netns", "add", namespace)
    _ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", port, "netns", switch)
    _ip("-n", switch, "link", "set", port, "master", "br0", "up")
    _ip("-n", namespace, "addr", "add", f"{host.address}/{bits}", "dev", "eth0", *(["nodad"] if ipv6 else []))
    for device in ("lo", "eth0"):
        _ip("-n", namespace, "link", "set", device, "up")
    return host


def remove_leftovers() -> None:
    """Removes what processes that are gone have left."""
    kernel = ProcessIdentity.own().kernel
    for line in _ip("netns", "list").splitlines():
        found = NAMES.fullmatch(line.split(" ")[0])
        if found is not None and not ProcessIdentity(kernel, int(found["pid"]), int(found["started"])).is_alive:
            _remove(found[0])


def _own_prefix() -> str:
    """Of all names that this process gives."""
    own = ProcessIdentity.own()
    return f"{PREFIX}{own.pid}-{own.started}-"


def _remove(namespace: str) -> None:
    """Removes a namespace, its links, its processes and its files; nothing where there is none."""
    if not NAMES.fullmatch(namespace):
        raise ValueError(f"not a namespace of a test (given: {namespace!r}, expected: {NAMES.pattern})")
    for _ in range(50):
        left = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, timeout=20)
        if not left.stdout.split():
            break
        for pid in left.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.1)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20)
    shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)


def _tbf(bits_per_s: float, burst: int) -> list[str]:
    """Arguments of a shaped link."""
    return ["rate", f"{bits_per_s:.0f}bit", "burst", f"{burst}b", "latency", LATENCY]


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
