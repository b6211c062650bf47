"""Weights on disk: one file per block, so that they can be read whatever the partition was.

    snapshots/step-460/block-000.pt ... block-003.pt, manifest.json
    measurements/epoch-5/...
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.records.files import whole_file, write_json

__all__ = ["latest_weights", "load_blocks", "measured_folder", "save_block", "write_manifest"]


def save_block(folder: Path, block: int, state: Mapping[str, Tensor]) -> None:
    """Writes one block's parameters and buffers, under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / f"block-{block:03d}.pt") as part:
        torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, part)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Declares the folder complete: written last, once every block's file is there."""
    write_json(folder / "manifest.json", manifest)


def latest_weights(run: Path) -> Path:
    """The newest complete folder of weights in a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    steps = {p.parent.name.removeprefix("step-"): p.parent for p in run.glob("snapshots/step-*/manifest.json")}
    numbered = [step for step in steps if step.isdecimal()]
    if not numbered:
        raise FileNotFoundError(
            f"no complete weights (given: {run}, expected: snapshots/step-N/manifest.json in it). "
            "Name the folder of a run that ended."
        )
    return steps[max(numbered, key=int)]


def measured_folder(run: Path, num_epochs: int) -> Path:
    """Where the weights after so many epochs lie that are kept to be measured."""
    return run / "measurements" / f"epoch-{num_epochs}"


def load_blocks(folder: Path) -> list[dict[str, Tensor]]:
    """The state of every block, in order; names are those of the rule, ``block.body.0.weight``."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf8"))
    return [
        torch.load(folder / f"block-{k:03d}.pt", weights_only=True) for k in range(manifest["num_blocks"])
    ]
