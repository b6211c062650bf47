"""The last files of a run, and a second place for them when the disk of its folder is full, read-only or broken.

    $ONWARD_RESCUE/rescued-<name of the run's folder>-<token>/   else in the system's folder for temporary files
        snapshots/step-N/, record.jsonl (the rows that were left), result.json

Made only when something has to go there. One line says so, and ``result.json`` names the weights as ``folder``.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DiskError, NonFiniteError, WorkerFailed
from pipeline.records.files import reason, whole_file, write_json
from pipeline.records.reports import StageResult
from pipeline.records.result_file import RESULT
from pipeline.records.run_record import Recorder
from pipeline.records.snapshots import block_file

__all__ = ["declare_complete", "note_result", "spare_folder"]

_NAME_LENGTH = 40

logger = logging.getLogger(__name__)


def spare_folder(out: Path, folder: Path) -> Path:
    """The second place of the run in ``out``.

    Args:
        out: the run's folder.
        folder: its folder for sockets, whose name nobody else can know before.
    """
    root = Path(os.environ.get("ONWARD_RESCUE") or tempfile.gettempdir())
    return root / f"rescued-{out.resolve().name[:_NAME_LENGTH]}-{folder.name.rpartition('-')[2]}"


def declare_complete(
    out: Path, spare: Path, results: Sequence[StageResult], write_manifest: Callable[[Path], None],
    table: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Brings the blocks of all stages together where they are not, and writes the manifest and ``result.json``.

    Args:
        out: the run's folder.
        spare: the second place.
        results: of all stages; ``folder`` of each becomes that of all weights.
        write_manifest: declares a folder complete.
        table: what ``result.json`` is to hold.

    Returns:
        ``table``; with ``folder`` where the weights are not in ``out``.

    Raises:
        DiskError: the weights can be declared complete nowhere.
    """
    weights = _declare(results, spare, write_manifest)
    table = dict(table)
    if weights.parent.parent != out:
        table["folder"] = str(weights)
        troubles = sorted({result["trouble"] for result in results if "trouble" in result})
        why = f" ({'; '.join(troubles)})" if troubles else ""
        logger.warning("the run's folder does not take the weights%s: they are in %s", why, weights)
    for result in results:
        result["folder"] = str(weights)
    _write_result(out, spare, table)
    return table


def _declare(results: Sequence[StageResult], spare: Path, write_manifest: Callable[[Path], None]) -> Path:
    """Gathers the blocks in the first place that takes them all and the manifest; returns it."""
    folders = {k: Path(result["folder"]) for result in results for k in result["digests"]}
    first = Path(results[0]["folder"])
    fallback = spare / "snapshots" / first.name
    troubles = []
    for target in [fallback] if fallback in folders.values() else [first, fallback]:
        try:
            for block, folder in folders.items():
                if folder != target:
                    with whole_file(target / block_file(block), durable=True) as part:
                        shutil.copyfile(folder / block_file(block), part)
            if missing := [block for block in folders if not (target / block_file(block)).is_file()]:
                raise FileNotFoundError(f"{block_file(missing[0])} is not there")
            write_manifest(target)
            return target
        except OSError as error:
            troubles.append(f"{target}: {reason(error)}")
    raise DiskError(
        f"the weights are saved and cannot be declared complete (given: {'; '.join(troubles)}). Their blocks are in "
        f"{', '.join(sorted({str(folder) for folder in folders.values()}))}; make room and bring them together."
    )


def note_result(out: Path, recorder: Recorder, error: BaseException) -> None:
    """The failure of a run in its record and in ``result.json``; a disk that does not take that is said in one line."""
    if recorder.spare is not None and (recorder.spare.parent / RESULT).exists():
        return  # it is complete, and its result is there
    status = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
    is_lost = status == "interrupted" or (isinstance(error, WorkerFailed) and error.is_lost)
    failure = {"status": status, "error": str(error), **(error.row if isinstance(error, NonFiniteError) else {})}
    recorder.write({"event": "failure", **failure, "lost": is_lost})
    try:
        write_json(out / RESULT, failure)
    except OSError as failing:
        logger.warning("%s cannot be written (%s: %s)", RESULT, out, reason(failing))


def _write_result(out: Path, spare: Path, table: Mapping[str, Any]) -> None:
    """``result.json`` in ``out``, else in ``spare``; said in one line."""
    try:
        write_json(out / RESULT, table)
        return
    except OSError as error:
        trouble = reason(error)
    try:
        write_json(spare / RESULT, table)
        logger.warning("the run's folder does not take %s (%s): it is in %s", RESULT, trouble, spare)
    except OSError as error:
        logger.warning("%s cannot be written (%s: %s; %s: %s)", RESULT, out, trouble, spare, reason(error))
