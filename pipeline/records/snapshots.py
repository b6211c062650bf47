"""Snapshots of a run: one file per block at one cut, and a manifest that declares them complete.

    snapshots/step-460/block-000.safetensors ... manifest.json
    snapshots/.spare/                            files of retired snapshots, to be written over

Each stage writes the files of its blocks, the coordinator the manifest, when it has heard of all of them. Everything
is written under another name, flushed to the disk, and renamed: a snapshot is there whole or not at all. What the
manifest says of a file is compared with the file whenever it is read.
"""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DamagedFile
from pipeline.records.files import whole_file
from pipeline.records.reports import BlockScores
from pipeline.records.tensor_file import TensorFile, read_tensors
from pipeline.schedules.cuts import Cut

__all__ = [
    "CARRIED", "FORMAT", "KEPT", "OPTIMIZER", "SCORES", "Manifest", "block_file", "complete_snapshots", "is_weight",
    "newest_snapshot", "read_block", "remove_spare", "retire", "retire_incomplete", "set_aside_newer",
    "snapshot_folder", "spare_file",
]  # fmt: skip

FORMAT = 1
OPTIMIZER = "optimizer/"
"""Before the names of the optimizer's tensors in a block's file."""
SCORES = "scores/"
"""Before those of the losses of an epoch that is not over."""
KEPT = "kept/"
"""Before those of weights after earlier epochs, which may still be chosen: ``kept/7/block.body.0.weight``."""
CARRIED = "carried/"
"""Before the names of recurrent layers and the state that they carry into the next batch of an epoch."""
_MANIFEST = "manifest.json"
_BLOCK_FILES = "block-*.safetensors"
_SPARE = ".spare"
_NO_CRC = "00000000"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What a snapshot says of itself."""

    cut: Cut
    steps: int
    """Optimizer steps since the run's start."""
    files: Mapping[int, int]
    """By block, the checksum of its file."""
    epochs: Sequence[Sequence[BlockScores]] = ()
    """The scores of the blocks that were active, for each finished epoch: the schedule's history follows from them."""
    wall_s: float = 0.0
    """Seconds of training so far."""
    record_bytes: int = 0
    """Length of ``record.jsonl``: a resume makes what follows void."""
    restarts: int = 0
    """Restarts so far."""
    fixed: Mapping[str, Any] | None = None
    """What a resume must keep, by name; see :mod:`workers.result_keys`. None of weights that no run goes on from."""
    weights_sha256: str | None = None
    """Of a run that is complete."""
    cache_lost: Sequence[int] = ()
    """Epochs in which the outputs of frozen blocks could not be kept: no later one starts from such outputs."""

    def write(self, folder: Path) -> None:
        """Declares ``folder`` complete.

        Raises:
            OSError: the disk refuses.
            RuntimeError: no run could go on from it; an error in Onward.
        """
        if (reason := self._why_no_start()) is not None:
            raise RuntimeError(f"{folder} cannot be declared a snapshot: {reason}. This is an error in Onward.")
        table = {
            "crc32": _NO_CRC, "format": FORMAT, **vars(self), "cut": self.cut._asdict(), "num_blocks": len(self.files),
            "files": {block_file(k): f"{crc:08x}" for k, crc in sorted(self.files.items())},
        }  # fmt: skip
        with whole_file(folder / _MANIFEST, durable=True) as part:
            text = json.dumps(table, indent=1) + "\n"
            part.write_text(text.replace(_NO_CRC, _crc_of(text), 1), encoding="utf8")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a folder.

        Raises:
            DamagedFile: it is not there, or is none.
        """
        path = folder / _MANIFEST
        try:
            text = path.read_text(encoding="utf8")
            table = json.loads(text)
            if table["format"] != FORMAT:
                raise ValueError("it is of another version of Onward")
            if table["crc32"] != _crc_of(text.replace(table["crc32"], _NO_CRC, 1)):
                raise ValueError("its checksum is not the one that it states")
            table = {key: value for key, value in table.items() if key not in ("format", "crc32")}
            files = {k: int(table["files"][block_file(k)], 16) for k in range(table.pop("num_blocks"))}
            lost = tuple(table.pop("cache_lost", ()))
            found = cls(**{**table, "cut": Cut(**table["cut"]), "files": files, "cache_lost": lost})
            if (reason := found._why_no_start()) is not None:
                raise ValueError(reason)
            return found
        except OSError as error:
            raise DamagedFile(path, error.strerror or str(error)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise DamagedFile(path, reason) from None

    def _why_no_start(self) -> str | None:
        """Why no run can go on from here though ``fixed`` says that one can; None where all is well."""
        if self.fixed is None or len(self.epochs) == self.cut.epoch:
            return None
        return f"its cut is behind {self.cut.epoch} epochs, and it has the scores of {len(self.epochs)}"


def _crc_of(text: str) -> str:
    """The checksum of a manifest's text, with zeros in place of its own."""
    return f"{zlib.crc32(text.encode()):08x}"


def is_weight(name: str) -> bool:
    """The tensor belongs to the block or its rule: not to the optimizer, nor to the epoch."""
    return not name.startswith((OPTIMIZER, SCORES, CARRIED, KEPT))


def snapshot_folder(run: Path, steps: int) -> Path:
    """The folder of the snapshot after so many steps of a run."""
    return run / "snapshots" / f"step-{steps}"


def block_file(block: int) -> str:
    """The name of a block's file."""
    return f"block-{block:03d}.safetensors"


def spare_file(folder: Path, block: int) -> Path:
    """A file of a retired snapshot that may be written over in place of a new one for ``folder``: a file system
    takes seven times as long to find room for a new one."""
    return folder.parent / _SPARE / block_file(block)


def read_block(folder: Path, block: int, crc32: int | None = None) -> TensorFile:
    """A block's file, proved.

    Args:
        folder: of the snapshot.
        block: its index.
        crc32: what the manifest says of it.

    Raises:
        DamagedFile: it is not as it was written, or is another one.
    """
    path = folder / block_file(block)
    found = read_tensors(path)
    if (crc32 is not None and found.crc32 != crc32) or found.about.get("block") != block:
        raise DamagedFile(path, "it is whole, and not the one that the manifest means")
    return found


def complete_snapshots(run: Path) -> list[Path]:
    """Folders of a run's snapshots that have a manifest, the newest first."""
    found = {p.parent.name.removeprefix("step-"): p.parent for p in run.glob(f"snapshots/step-*/{_MANIFEST}")}
    return [found[step] for step in sorted((s for s in found if s.isdecimal()), key=int, reverse=True)]


def newest_snapshot(run: Path) -> tuple[Path, Manifest] | None:
    """The newest snapshot of a run that is whole, every file of it read and proved; None where there is none.

    A damaged one is named in a warning, and the one before it is taken.
    """
    for folder in complete_snapshots(run):
        try:
            manifest = Manifest.read(folder)
            for block, crc in manifest.files.items():
                read_block(folder, block, crc)
            return folder, manifest
        except DamagedFile as error:
            logger.warning("a snapshot is passed over: %s: %s", error.path, error.reason)
    return None


def retire(run: Path, keep: int) -> None:
    """Lets all complete snapshots go but the newest ``keep``; their files become spare ones."""
    for folder in complete_snapshots(run)[keep:]:
        (folder / _MANIFEST).unlink(missing_ok=True)  # first: from here on it is no snapshot
        _spare(folder)


def set_aside_newer(run: Path, newest: Path | None) -> None:
    """Renames the snapshots that a run does not go on from: damaged ones, and those behind the one in ``newest``.

    They stay as ``void-step-N``, to be looked at: the run's own snapshots of these steps come anew. Where ``newest`` is
    not there any more, none is renamed: it is not known which of them come behind it.
    """
    folders = complete_snapshots(run)
    if newest is not None:
        places = [folder.resolve() for folder in folders]
        folders = folders[: places.index(newest.resolve())] if newest.resolve() in places else []
    for folder in folders:
        target, number = folder.with_name(f"void-{folder.name}"), 1
        while target.exists():
            number += 1
            target = folder.with_name(f"void-{folder.name}-{number}")
        folder.rename(target)


def retire_incomplete(run: Path, steps: int | None = None) -> None:
    """Lets go what no manifest declares complete, after so many steps or anywhere. No stage may be writing there."""
    for folder in run.glob(f"snapshots/step-{'*' if steps is None else steps}"):
        if not (folder / _MANIFEST).exists():
            _spare(folder)


def remove_spare(run: Path) -> None:
    """Removes the spare files: nothing more is to be written."""
    shutil.rmtree(run / "snapshots" / _SPARE, ignore_errors=True)


def _spare(folder: Path) -> None:
    """Makes a folder's files spare ones."""
    spare = folder.parent / _SPARE
    spare.mkdir(exist_ok=True)
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a stage that is behind has just taken it
            if path.match(_BLOCK_FILES):
                os.replace(path, spare / path.name)
                path.unlink(missing_ok=True)  # two names of one file: then nothing was replaced
            else:
                path.unlink()
    with suppress(OSError):
        folder.rmdir()
