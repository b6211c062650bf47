"""Runs that are written down at every cut, and taken up again from each of them."""

import dataclasses
import json

from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.records.snapshots import Manifest, complete_snapshots
from workers.resume import open_origin
from workers.run import train

TINY = merged(SMALL, {
    "dataset": {"name": "noise", "shape": [1, 6, 6], "num_train": 52, "num_test": 30, "num_classes": 4},
    "model": {"name": "mlp", "depth": 3, "width": 12, "dropout": 0.2},
    "train": {"epochs": 3, "batch_size": 12}, "optimizer": {"name": "adam", "lr": 1e-2, "milestones": [1]},
    "snapshot": {"keep": 1000},
})  # fmt: skip
"""Three epochs of five steps, the last of which is smaller."""


def learned(out):
    """What a run has learned, its weights and every score of every epoch, as one value to be compared."""
    result = json.loads((out / "result.json").read_text())
    manifest = Manifest.read(complete_snapshots(out)[0])
    blocks = [(b["test_accuracy"], b["epochs_trained"], b["frozen_at_epoch"]) for b in result["blocks"]]
    samples = [s["samples"] for s in result["stages"]] if len(result["stages"]) == 1 else None
    return result["weights_sha256"], manifest.epochs, blocks, result["test"], samples


def written(out, changes, base=TINY, **kwargs):
    """A run that is written down; what it has learned."""
    train(Config.from_dict(merged(base, changes)), out=out, data_root=out, **kwargs)
    return learned(out)


def cuts_of(out):
    """Its snapshots, the oldest first, without that of its end."""
    return [folder for folder in reversed(complete_snapshots(out)) if Manifest.read(folder).weights_sha256 is None]


def resumed(run, folder, out, changes, base=TINY, *, allow_changes=False, **kwargs):
    """What the run has learned that goes on from the snapshot in ``folder`` of ``run``, in the folder ``out``."""
    origin = dataclasses.replace(open_origin(run, allow_changes=allow_changes), found=(folder, Manifest.read(folder)))
    train(Config.from_dict(merged(base, changes)), out=out, data_root=out, origin=origin, **kwargs)
    return learned(out)
