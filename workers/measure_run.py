"""Measures a run that has ended, and adds what is found to the run's folder and record.

    measurements.json                one row for each measured epoch
    measurements/maps.npz, tsne.npz  what is drawn
    measurements/epoch-K/            the weights, in the format of snapshots

In the process that coordinated, when the stages are gone: the run's clock has stopped, and its result is written.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import WorkerFailed
from pipeline.measure.epoch import Measurement, with_credit
from pipeline.numerics.seeds import seeded
from pipeline.records.run_record import Recorder, jsonable
from pipeline.records.run_state import RunState
from pipeline.records.weights import load_blocks, measured_folder, write_manifest
from pipeline.resolve import RunSpec
from workers.placement import Placement

__all__ = ["measure_run", "measured_epochs"]


def measured_epochs(every: int, num_epochs: int) -> list[int]:
    """Numbers of epochs after which a run of ``num_epochs`` is measured: 0, each ``every``-th, and the last."""
    return [*range(0, num_epochs, every), num_epochs] if every > 0 else []


def measure_run(resolved: RunSpec, placement: Placement, run_state: RunState, out: Path, data_root: Path) -> None:
    """Measures as ``[measure]`` asks.

    Args:
        resolved: the run, with the blueprints of all blocks.
        placement: names the device and the threads, which are part of the result.
        run_state: of the run, which has ended.
        out: the run's folder.
        data_root: where data sets are.

    Raises:
        WorkerFailed: the weights of a stage are not in ``out``; the run itself has ended well.
    """
    every = resolved.config.measure.every
    epochs = measured_epochs(every, len(run_state.history))
    if not epochs:
        return
    with _formats_of_the_run(placement.threads, resolved.config.run.matmul_precision), closing(
        Recorder(out / "record.jsonl")
    ) as recorder:
        measurement = Measurement(resolved, data_root, torch.device(placement.devices[0]))
        rows = []
        for epoch in epochs:
            kept = epoch % every == 0  # or it is the last one, whose weights are the run's own snapshot
            folder = measured_folder(out, epoch) if kept else Path(run_state.stage_results()[0]["folder"])
            states = _weights(folder, placement) if epoch > 0 else None
            row = measurement.epoch(epoch, states, layout=epoch in (0, epochs[-1]))
            rows.append(with_credit(row, run_state.block_rows(epoch - 1) if epoch > 0 else {}))
            recorder.write({"event": "measurement", **rows[-1]})
    for name, arrays in measurement.arrays().items():
        _write_arrays(out / "measurements" / f"{name}.npz", arrays)
    _write_table(out / "measurements.json", {"num_blocks": resolved.num_blocks, "epochs": rows})
    if not resolved.config.measure.keep_weights:
        for epoch in epochs:
            shutil.rmtree(measured_folder(out, epoch), ignore_errors=True)
        with suppress(OSError):  # there are maps or layouts in it
            (out / "measurements").rmdir()


@contextmanager
def _formats_of_the_run(threads: int, precision: str) -> Iterator[None]:
    """Computes as the stages did, see :func:`workers.worker.prepare_process`; the process is the caller's."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    try:
        with seeded(0), torch.backends.cudnn.flags(
            enabled=True, deterministic=True, allow_tf32=precision != "highest"
        ):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def _weights(folder: Path, placement: Placement) -> list[dict[str, Tensor]]:
    """Of all blocks; declares a folder complete that every stage has written to."""
    num_blocks = placement.partition[-1].stop
    for stage, blocks in enumerate(placement.partition):
        missing = next((k for k in blocks if not (folder / f"block-{k:03d}.pt").exists()), None)
        if missing is not None:
            raise WorkerFailed(
                stage, placement.num_stages,
                f"the run has ended well and cannot be measured: its weights are not here (given: {folder} without "
                f"block {missing}, expected: blocks 0 to {num_blocks - 1}). Choose an --out that every host shares.",
            )  # fmt: skip
    if not (folder / "manifest.json").exists():
        write_manifest(folder, {"num_blocks": num_blocks})
    return load_blocks(folder)


def _write_arrays(path: Path, arrays: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **{name: tensor.numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]
    os.replace(part, path)


def _write_table(path: Path, table: Mapping[str, Any]) -> None:
    """Whole or not at all: a script may be looking."""
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(jsonable(table), indent=1) + "\n", encoding="utf8")
    os.replace(part, path)
