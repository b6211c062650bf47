"""Latency and bandwidth of every transport, of raw gloo and of ``multiprocessing.Queue``.

    python -m benchmarks.transport --out benchmarks/results/transport.json

Two processes of one thread. Latency is half a round trip of one message, there and back; bandwidth is that of a
stream in one direction, from the first ``send`` until the other process says that it has everything. In every arm the
sender may overwrite its tensor as soon as ``send`` has returned, as learning does: a queue, which would ship the
tensor itself, is given a copy. Received tensors are not read. ``inline`` has both ends in one thread of one process.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.channels import DEPTH, Channel, message, open_channel, open_transport
from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.pair import run_pair
from workers.host.fork_server import process_context, warm_up
from workers.transport import Reach, capabilities_of

KIB, MIB = 2**10, 2**20
SIZES = (4 * KIB, 64 * KIB, 512 * KIB, 8 * MIB, 64 * MIB)
OUTSIDE = ("gloo", "mp_queue")
"""Arms that are no transport of ours."""
ARMS = ("shared_memory", "process_group", *OUTSIDE, "inline")
WARM_UP = 3 * DEPTH
"""Round trips before any is timed: every slot has been touched, every connection used."""


def between_processes(
    index: int, peer: Connection, arm: str, num_bytes: int, seconds: float, folder: str, queues: Sequence[Any]
) -> dict[str, float] | None:
    """One process's part; process 0 takes the time and tells the other how many messages come."""
    channel = open_channel(arm, index, num_bytes, folder, queues)
    body = torch.full((num_bytes // 4,), 1.0 + index)
    found = None
    if index == 0:
        found = lead(channel, body, peer, seconds)
    else:
        follow(channel, body, peer)
    peer.send("done")  # a queue's memory is gone with its sender
    peer.recv()
    channel.close()
    return found


def lead(channel: Channel, body: Tensor, peer: Connection, seconds: float) -> dict[str, float]:
    """Round trips, then a stream, each for about ``seconds``."""
    usual = statistics.median(round_trips(channel, body, peer, WARM_UP))
    found = statistics.median(round_trips(channel, body, peer, repeats(usual, seconds)))
    stream(channel, body, peer, WARM_UP)
    count = repeats(stream(channel, body, peer, WARM_UP) / WARM_UP, seconds)
    return {"latency_s": found / 2, "bytes_per_s": count * body.nbytes / stream(channel, body, peer, count)}


def follow(channel: Channel, body: Tensor, peer: Connection) -> None:
    """The other side of :func:`lead`: echoes two series of messages, then receives three."""
    received = body
    for _ in range(2):
        for _ in range(peer.recv()):
            received = channel.recv()
            channel.send(received)
    for _ in range(3):
        for _ in range(peer.recv()):
            received = channel.recv()
        peer.send("all")
    assert received.shape == body.shape and bool((received == 1.0).all()), "what came is not what was sent"


def repeats(usual: float, seconds: float) -> int:
    """Repetitions of a call of ``usual`` seconds that take about ``seconds``."""
    return max(5, min(10_000, int(seconds / usual)))


def round_trips(channel: Channel, body: Tensor, peer: Connection, count: int) -> list[float]:
    """Seconds of each."""
    peer.send(count)
    found = []
    for _ in range(count):
        start = time.perf_counter()
        channel.send(body)
        channel.recv()
        found.append(time.perf_counter() - start)
    return found


def stream(channel: Channel, body: Tensor, peer: Connection, count: int) -> float:
    """Seconds for ``count`` messages in one direction."""
    peer.send(count)
    start = time.perf_counter()
    for _ in range(count):
        channel.send(body)
    peer.recv()
    return time.perf_counter() - start


def in_one_thread(
    index: int, peer: Connection, num_bytes: int, seconds: float, folder: str
) -> dict[str, float] | None:
    """``inline``: what one message costs from the beginning of ``send`` to the end of ``recv``."""
    if index == 1:
        return None
    ends = [open_transport("inline", i, num_bytes, folder) for i in range(2)]
    body = torch.ones(num_bytes // 4)
    found: list[float] = []
    until = time.perf_counter() + 2 * seconds
    while len(found) < 2 * WARM_UP or (time.perf_counter() < until and len(found) < 20_000):
        start = time.perf_counter()
        ends[0].send(message(body), 1, 0.0)
        ends[1].recv(0, 0.0)
        found.append(time.perf_counter() - start)
    usual = statistics.median(found[WARM_UP:])
    return {"latency_s": usual, "bytes_per_s": num_bytes / usual}


def measure(arm: str, num_bytes: int, seconds: float) -> dict[str, float]:
    """One round of one arm, in a fresh pair of processes: ``latency_s`` one way, and ``bytes_per_s``."""
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        if arm not in OUTSIDE and capabilities_of(arm).reach is Reach.PROCESS:
            found: dict[str, float] = run_pair(in_one_thread, num_bytes, seconds, folder)
            return found
        context: Any = process_context()
        queues = [context.Queue(DEPTH) for _ in range(2)] if arm == "mp_queue" else []
        found = run_pair(between_processes, arm, num_bytes, seconds, folder, queues)
        return found


def table_of(sizes: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    """Arms by size; how ``shared_memory`` compares with each other arm, the process group with gloo, by rounds."""
    arms: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    ratios: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS[1:]}
    over_gloo: dict[str, Any] = {}
    for size in sizes:
        found = take_turns({arm: partial(measure, arm, size, seconds) for arm in ARMS}, rounds)
        series = {arm: {key: [row[key] for row in rows] for key in rows[0]} for arm, rows in found.items()}
        ours = series["shared_memory"]
        for arm in ARMS:
            arms[arm][str(size)] = {key: spread(values) for key, values in series[arm].items()}
        for arm in ratios:
            latency = ratio(series[arm]["latency_s"], ours["latency_s"])
            bandwidth = ratio(ours["bytes_per_s"], series[arm]["bytes_per_s"])
            ratios[arm][str(size)] = {"latency": latency, "bandwidth": bandwidth}
            print(f"{size:>9} bytes, shared_memory against {arm}: latency {latency['median']:.2f} times lower, "
                  f"bandwidth {bandwidth['median']:.2f} times higher", flush=True)  # fmt: skip
        over_gloo[str(size)] = found_ratios = _over(series["gloo"], series["process_group"])
        print(f"{size:>9} bytes, process_group over gloo: latency {found_ratios['latency']['median']:.2f}, "
              f"bandwidth {found_ratios['bandwidth']['median']:.2f}", flush=True)  # fmt: skip
    return {
        "sizes": list(sizes), "depth": DEPTH, "arms": arms, "ratios": ratios, "over_gloo": {"process_group": over_gloo},
    }  # fmt: skip


def _over(reference: dict[str, list[float]], ours: dict[str, list[float]]) -> dict[str, Any]:
    """Latency and bandwidth of an arm over those of ``reference``, round by round."""
    return {
        "latency": ratio(ours["latency_s"], reference["latency_s"]),
        "bandwidth": ratio(ours["bytes_per_s"], reference["bytes_per_s"]),
    }


def main(arguments: Sequence[str]) -> int:
    """Measures, prints the table, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two sizes, one short round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about = environment("benchmarks.transport", arguments, threads=1)
    warm_up("noise")
    sizes, rounds, seconds = (SIZES[:2], 1, 0.02) if options.quick else (SIZES, options.rounds, 0.3)
    write(options.out, {**table_of(sizes, rounds, seconds), "rounds": rounds, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
