"""Lines for files between a stage and rank 0, and files to bring over them."""

import os
from contextlib import contextmanager
from multiprocessing import Pipe

from workers.freight import FreightDesk

__all__ = ["BLOCK", "LONG_S", "blocks_in", "open_desk", "result_in", "written"]

BLOCK = "snapshots/step-40/block-002.safetensors"
LONG_S = 20.0


@contextmanager
def open_desk(folder):
    """Rank 0's end of one line over two places, and the stage's end."""
    ours, theirs = Pipe()
    found = FreightDesk([ours], [folder / "out", folder / "spare"])
    try:
        yield theirs
    finally:
        theirs.close()  # first: the desk waits for it
        found.close()


def written(path, num_bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(num_bytes))
    return path


def blocks_in(folder, *blocks):
    return [written(folder / f"block-00{k}.safetensors", 1000 + k) for k in blocks]


def result_in(folder, *blocks):
    return {"folder": str(folder), "files": [(k, 0) for k in blocks], "digests": dict.fromkeys(blocks, "a")}
