"""Runs over the hosts of :mod:`tests.support.hosts`: by torchrun, as a user would, or as ranks without it.

An interpreter takes seconds to import torch, and torchrun imports it once more on each host. Ranks that come from the
fork server have it already: they move to their host, and call the same ``launch.main``.
"""

import json
import os
import sys

import launch
from tests.support.command import ROOT, TORCHRUN
from tests.support.processes import run_stages

KEY = "a secret of these tests, and of nobody else"
PORT = 29500
__all__ = ["KEY", "PORT", "by_master", "ranks_on", "result_of", "said_by", "torchrun_on"]


def ranks_on(hosts, per_host, folder, *arguments, timeout=90.0, ranks=None, leader=None, port=PORT):
    """``launch.main`` as ranks, so many on each host, with ``--out`` on its own disk where none is named.

    Args:
        hosts: that have them.
        per_host: ranks on each, a list.
        folder: for what the test needs itself.
        arguments: of the command.
        timeout: seconds.
        ranks: numbers of the ranks, where others are missing in front of them.
        leader: what they are told to be the name of rank 0's host.
        port: of the store.

    Returns:
        For each rank its exit status, and what it says on standard error.
    """
    places = [(host, local, count) for host, count in zip(hosts, per_host) for local in range(count)]
    ranks = range(len(places)) if ranks is None else ranks
    about = places, ranks, leader or hosts[0].name, port, list(map(str, arguments))
    outcomes = run_stages(_rank, len(places), folder, *about, timeout=timeout)
    texts = [said_by(host, rank) for rank, (host, _, _) in zip(ranks, places)]
    codes = [outcome.exitcode if outcome.value is None else outcome.value for outcome in outcomes]
    return list(zip(codes, texts))


def said_by(host, rank):
    """What a rank has said on standard error so far."""
    return _said(host, rank).read_text(encoding="utf8")


def _said(host, rank):
    """Where the standard error of a rank is kept: one that ends at once gives nothing back."""
    return host.disk.with_name(f"{host.disk.name}-{rank}.err")


def _rank(index, folder, places, ranks, leader, port, arguments):
    (host, local, count), rank = places[index], ranks[index]
    said = os.open(_said(host, rank), os.O_WRONLY | os.O_CREAT)
    host.enter()
    os.dup2(said, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.pop(name, None)
    os.environ.update({
        "RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(ranks[-1] + 1), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": leader, "MASTER_PORT": str(port), "ONWARD_KEY": KEY,
    })  # fmt: skip
    own = [] if "--out" in arguments else ["--out", str(host.disk / "run")]
    sys.argv = ["launch.py", *arguments, *own]
    try:
        return launch.main(sys.argv[1:])
    except SystemExit as end:
        return end.code


def by_master(hosts, index):
    """Arguments of torchrun on a host that is told where rank 0 is."""
    return ["--node-rank", index, "--master-addr", hosts[0].name, "--master-port", PORT]


def torchrun_on(hosts, per_host, *arguments, env=None, rendezvous=by_master, max_restarts=0):
    """Starts ``torchrun`` on every host, as the documentation says; its processes."""
    return [
        host.start(
            *TORCHRUN, "--nnodes", len(hosts), "--nproc-per-node", per_host, "--max-restarts", max_restarts,
            *rendezvous(hosts, index), ROOT / "launch.py", *arguments,
            "--out", host.disk / "run", env={"ONWARD_KEY": KEY, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        for index, host in enumerate(hosts)
    ]  # fmt: skip


def result_of(host):
    """``result.json`` on a host's disk."""
    return json.loads((host.disk / "run" / "result.json").read_text(encoding="utf8"))
