"""Runs over several hosts, each a network namespace with a name, a disk and a cache of its own."""

import json

import pytest

from tests.support.host_runs import ranks_on, result_of
from tests.support.hosts import hosts, why_not
from tests.support.runs import run

REASON = why_not()
pytestmark = [
    pytest.mark.distributed, pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.usefixtures("nothing_left"),
]  # fmt: skip
full = pytest.mark.full
SMALL = [
    "model.name=mlp", "model.depth=4", "model.width=32", "model.dropout=0.2", "dataset.name=digits",
    "train.epochs=2", "train.batch_size=100", "optimizer.name=adam", "optimizer.lr=1e-3",
    "run.threads=1", "run.partition=parameters", "run.predict=false", "run.timeout_s=60",
]  # fmt: skip
LAYOUTS = {"2": (2, [1, 1]), "2-mixed": (2, [2, 2]), "2-uneven": (2, [1, 3]), "4": (4, [1, 1, 1, 1])}
RULES = {"linear_decoder": "LOCAL", "backprop": "NEIGHBOUR", "dfa": "BROADCAST", "lra": "SETTLE"}


def over(tmp_path, layout, *arguments):
    """A run over hosts; its ``result.json`` and the files of its folder, and those on the other disks."""
    number, counts = LAYOUTS[layout]
    with hosts(number) as found:
        said = ranks_on(found, counts, tmp_path, "--quiet", *SMALL, *arguments)
        assert [code for code, _, _ in said] == [0] * sum(counts), said
        home, *others = ({str(p.relative_to(h.disk)) for p in h.disk.rglob("*") if p.is_file()} for h in found)
        return result_of(found[0]), {name for name in home if name.startswith("run/")}, set().union(*others)
