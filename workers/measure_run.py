"""Measures a run that has ended, and adds what is found to the run's folder and record.

    measurements.json                one row for each measured epoch
    measurements/maps.npz, tsne.npz  what is drawn
    measurements/epoch-K/            the weights, in the format of snapshots

In the process that coordinated, when the stages are gone: the run's clock has stopped, and its result is written.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import WorkerFailed
from pipeline.measure.epoch import Measurement, with_credit
from pipeline.numerics.compute import compute_as
from pipeline.numerics.seeds import seeded
from pipeline.records.files import reason, whole_file, write_json
from pipeline.records.run_record import Recorder
from pipeline.records.run_state import RunState
from pipeline.records.snapshots import Manifest, block_file, read_block
from pipeline.records.weights import load_blocks, measured_folder
from pipeline.resolve import RunSpec
from pipeline.schedules.cuts import Cut
from workers.placement import Placement

__all__ = ["measure_run", "measured_epochs"]

logger = logging.getLogger(__name__)


def measured_epochs(every: int, num_epochs: int) -> list[int]:
    """Numbers of epochs after which a run of ``num_epochs`` is measured: 0, each ``every``-th, and the last."""
    return [*range(0, num_epochs, every), num_epochs] if every > 0 else []


def missing_epochs(out: Path, every: int, num_epochs: int) -> set[int]:
    """Of the first epochs, those whose weights were to be kept and are not there, in a run that was taken up."""
    wanted = measured_epochs(every, num_epochs)
    return {k for k in wanted if k > 0 and k % every == 0 and not any(measured_folder(out, k).glob("block-*"))}


def measure_run(resolved: RunSpec, placement: Placement, run_state: RunState, out: Path, data_root: Path) -> None:
    """Measures as ``[measure]`` asks; a disk that fails meanwhile is said in one line, and the run has ended well.

    Args:
        resolved: the run, with the blueprints of all blocks.
        placement: names the device and the threads, which are part of the result.
        run_state: of the run, which has ended.
        out: the run's folder.
        data_root: where data sets are.

    Raises:
        WorkerFailed: the weights of a stage are not in ``out``; the run itself has ended well.
    """
    last = len(run_state.history)
    wanted = measured_epochs(resolved.config.measure.every, last)
    run_state.not_kept |= missing_epochs(out, resolved.config.measure.every, run_state.begun_after)
    epochs = [epoch for epoch in wanted if epoch == last or epoch not in run_state.not_kept]
    if not epochs:
        return
    try:
        _measure(resolved, placement, run_state, epochs, out, data_root)
    except OSError as error:
        logger.warning("the run is complete and its measurements are not (%s: %s). Make room.", out, reason(error))


def _measure(
    resolved: RunSpec, placement: Placement, run_state: RunState, epochs: Sequence[int], out: Path, data_root: Path
) -> None:
    """Measures after each of ``epochs``."""
    every = resolved.config.measure.every
    device, precision = torch.device(placement.devices[0]), resolved.config.run.matmul_precision
    with (
        compute_as(placement.threads, precision, device), seeded(0),
        closing(Recorder(out / "record.jsonl")) as recorder,
    ):  # fmt: skip
        num_steps = resolved.batching.num_steps
        measurement = Measurement(resolved, data_root, device)
        rows = _earlier_rows(out, run_state)
        for epoch in epochs:
            # Or it is the last one, whose weights are the run's own snapshot.
            kept = epoch % every == 0 and epoch not in run_state.not_kept
            folder = measured_folder(out, epoch) if kept else Path(run_state.stage_results()[0]["folder"])
            states = _weights(folder, placement, epoch, num_steps) if epoch > 0 else None
            row = measurement.epoch(epoch, states, layout=epoch in (0, epochs[-1]))
            rows[epoch] = with_credit(row, run_state.block_rows(epoch - 1) if epoch > 0 else {})
            recorder.write({"event": "measurement", **rows[epoch]})
    for name, arrays in measurement.arrays().items():
        _write_arrays(out / "measurements" / f"{name}.npz", arrays)
    table = {"num_blocks": resolved.num_blocks, "epochs": [rows[k] for k in sorted(rows)]}
    write_json(out / "measurements.json", table)
    if not resolved.config.measure.keep_weights:
        for epoch in epochs:
            shutil.rmtree(measured_folder(out, epoch), ignore_errors=True)
        with suppress(OSError):  # there are maps or layouts in it
            (out / "measurements").rmdir()


def _earlier_rows(out: Path, run_state: RunState) -> dict[int, dict[str, Any]]:
    """What a run that was taken up had measured when its weights were still there, by epoch."""
    try:
        table = json.loads((out / "measurements.json").read_text(encoding="utf8"))
        rows = {int(row["epoch"]): dict(row) for row in table["epochs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {k: row for k, row in rows.items() if k in run_state.not_kept and k <= run_state.begun_after}


def _weights(folder: Path, placement: Placement, epoch: int, num_steps: int) -> list[dict[str, Tensor]]:
    """Of all blocks; declares a folder complete that every stage has written to."""
    num_blocks = placement.partition[-1].stop
    for stage, blocks in enumerate(placement.partition):
        missing = next((k for k in blocks if not (folder / block_file(k)).exists()), None)
        if missing is not None:
            raise WorkerFailed(
                stage, placement.num_stages,
                f"the run has ended well and cannot be measured: its weights are not here (given: {folder} without "
                f"block {missing}, expected: blocks 0 to {num_blocks - 1}). Choose an --out that every host shares.",
            )  # fmt: skip
    if not (folder / "manifest.json").exists():
        files = {k: read_block(folder, k).crc32 for k in range(num_blocks)}
        Manifest(Cut(epoch), epoch * num_steps, files).write(folder)
    return load_blocks(folder)


def _write_arrays(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """An ``.npz`` of tensors, by name."""
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **{name: tensor.numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]
