"""Onward's stages as the ranks of torchrun, one on each host of a job, without torchrun's own start of two imports."""

import json
import multiprocessing
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms.job import Entered
from pipeline.config import Config
from workers.torchrun import Ranks, run_rank

__all__ = ["train_over"]


def train_over(hosts: Sequence[Entered], config: Config, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One run with a stage on each host; its ``result.json`` and the rows of ``record.jsonl``.

    Args:
        hosts: one for each rank.
        config: of the run.
        folder: in which every rank has one of its own.

    Raises:
        SystemExit: a rank failed.
    """
    context = multiprocessing.get_context("fork")
    key, port = secrets.token_hex(16), _free_port()
    ranks = [
        context.Process(target=_rank, args=(hosts, index, config, folder / f"{index}", key, port))
        for index in range(len(hosts))
    ]  # fmt: skip
    for rank in ranks:
        rank.start()
    try:
        for rank in ranks:
            rank.join()
    finally:
        for rank in ranks:
            rank.kill()
    if any(rank.exitcode for rank in ranks):
        raise SystemExit(f"a rank failed (exit statuses: {[rank.exitcode for rank in ranks]})")
    out = folder / "0"
    rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
    return json.loads((out / "result.json").read_text(encoding="utf8")), rows


def _free_port() -> int:
    """A port that nobody on this machine has; the hosts' own are others'."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _rank(hosts: Sequence[Entered], index: int, config: Config, out: Path, key: str, port: int) -> None:
    """Body of a rank's process."""
    hosts[index].enter()
    os.environ.update({
        "RANK": str(index), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(hosts)), "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(port), "ONWARD_KEY": key,
    })  # fmt: skip
    ranks = Ranks.from_environment()
    assert ranks is not None, "the variables of a rank are set"
    run_rank(ranks, config, out=out, data_root=out, make_view=None, command=())
