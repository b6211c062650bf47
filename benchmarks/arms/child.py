"""The process of an arm: ``python -m benchmarks.arms.child FOLDER``, started by :mod:`benchmarks.arms.launch`."""

import importlib
import json
import pickle
import sys
from pathlib import Path

import torch

from benchmarks.arms.job import ArmJob
from workers.host.allocator import keep_freed_memory

__all__ = ["main"]


def main(folder: Path) -> None:
    """Reads ``job.pickle``, runs the arm, writes ``result.json``."""
    job: ArmJob = pickle.loads((folder / "job.pickle").read_bytes())
    prepare(job)
    table = importlib.import_module(job.module).main(job)
    (folder / "result.json").write_text(json.dumps(table), encoding="utf8")


def prepare(job: ArmJob) -> None:
    """The settings that all arms share; ranks that are forked inherit them."""
    if job.keeps_memory:
        keep_freed_memory()
    torch.set_num_threads(job.threads)
    torch.set_float32_matmul_precision(job.precision)
    torch.backends.cudnn.allow_tf32 = job.precision != "highest"
    torch.backends.cudnn.benchmark = True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
