"""Weights of a run on disk, to be read by anyone: those of its snapshots, and those kept to be measured.

    snapshots/step-460/block-000.safetensors ... block-003.safetensors, manifest.json
    measurements/epoch-5/...
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import DamagedFile
from pipeline.records.files import whole_file
from pipeline.records.snapshots import KEPT, Manifest, block_file, complete_snapshots, is_weight, read_block
from pipeline.records.tensor_file import pack

__all__ = ["chosen_weights", "latest_weights", "load_blocks", "measured_folder", "save_block"]


def save_block(folder: Path, block: int, state: Mapping[str, Tensor]) -> int:
    """Writes one block's parameters and buffers. Returns: the file's checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / block_file(block)) as part, part.open("wb") as file:
        return pack(state, {"block": block}).write(file)


def latest_weights(run: Path) -> Path:
    """The newest complete folder of weights in a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = complete_snapshots(run)
    if not found:
        raise FileNotFoundError(
            f"no complete weights (given: {run}, expected: snapshots/step-N/manifest.json in it). "
            "Name the folder of a run that ended."
        )
    return found[0]


def measured_folder(run: Path, num_epochs: int) -> Path:
    """Where the weights after so many epochs lie that are kept to be measured."""
    return run / "measurements" / f"epoch-{num_epochs}"


def load_blocks(folder: Path, *, chosen: bool = False) -> list[dict[str, Tensor]]:
    """The weights of every block, in order, each file proved; names are those of the rule, ``block.body.0.weight``.

    Args:
        folder: of a snapshot.
        chosen: at the end of a run with a validation set, the weights of the epoch that was chosen in place of the
            last ones.

    Raises:
        DamagedFile: a file is not as it was written, or not there.
    """
    if (folder / "block-000.pt").exists() and not (folder / block_file(0)).exists():
        return _load_older(folder)
    files = Manifest.read(folder).files
    states = [read_block(folder, block, crc).tensors for block, crc in sorted(files.items())]
    return [chosen_weights(state) if chosen else _last(state) for state in states]


def _last(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a block at the cut."""
    return {name: tensor for name, tensor in state.items() if is_weight(name)}


def chosen_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights among a block's tensors: those of an earlier epoch where there are some, of one at the end of a run."""
    kept = {name.split("/", 2)[2]: tensor for name, tensor in state.items() if name.startswith(KEPT)}
    return kept or _last(state)


def _load_older(folder: Path) -> list[dict[str, Tensor]]:
    """The weights of a run that was written before its files could be proved. Raises: see :func:`load_blocks`."""
    path, states = folder / "manifest.json", []
    try:
        num_blocks = int(json.loads(path.read_text(encoding="utf8"))["num_blocks"])
        for k in range(num_blocks):
            path = folder / f"block-{k:03d}.pt"
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
                raise TypeError("these are no weights")
            states.append(state)
    except Exception as error:  # torch's reader raises whatever it stumbles over
        raise DamagedFile(path, f"{type(error).__name__}: {' '.join(str(error).split())}") from None
    return states
