"""Onward's arms: ordinary runs of :func:`workers.run.train`, read from their records."""

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.arms.job import ArmJob
from benchmarks.arms.over_hosts import train_over
from benchmarks.arms.stopwatch import NUM_WINDOWS, WARM_S, WARM_STEPS
from workers.run import train

__all__ = ["bubble", "epochs_for", "figures", "main"]

Row = Mapping[str, Any]

_COLD_EPOCHS = 1


def main(job: ArmJob) -> dict[str, Any]:
    """One run: its rate over the epochs between warm-up and the last, its stages, its bubble."""
    warm, epochs = (0, job.epochs) if job.epochs else epochs_for(job)
    config = job.preset.config(
        precision=job.precision, mode=job.mode, partition=job.partition, threads=job.threads, epochs=epochs,
        microbatches=job.microbatches, wire=job.wire,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        if job.hosts:
            result, rows = train_over(job.hosts, config, Path(folder))
        else:
            out = Path(folder) / "run"
            result = train(config, out=out, data_root=Path(folder))
            rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
    about = {"stages": result["stages"], "peak_device_bytes": _peak(result["stages"])}
    if job.epochs:
        last = result["stages"][-1]
        rate = epochs * job.preset.num_samples / (result["wall_s"] - last["eval_s"])
        return {**about, "samples_per_s": rate, "bubble": bubble(result), "steps": result["steps"]}
    return {**about, **figures(rows, warm, job.preset.num_samples)}


def epochs_for(job: ArmJob) -> tuple[int, int]:
    """Epochs of warm-up, and of the whole run at the job's rate: warm-up, ``seconds``, and the evaluated last one."""
    epoch_s = job.preset.num_samples / job.rate
    warm = min(ceil(WARM_S / epoch_s), ceil(WARM_STEPS / job.preset.steps_per_epoch))
    return max(_COLD_EPOCHS, warm), max(_COLD_EPOCHS, warm) + max(2, round(job.seconds / epoch_s)) + 1


def figures(rows: Sequence[Row], warm: int, num_samples: int) -> dict[str, Any]:
    """The measured part of a run.

    Each process reports its time budget at the end of each epoch; the last one's ends are the pipeline's. Left out
    are ``warm`` epochs at the start, and the last epoch, behind which the test set is evaluated.

    Args:
        rows: of ``record.jsonl``.
        warm: epochs not counted, at least 1.
        num_samples: of an epoch.

    Returns:
        ``samples_per_s``, the median over equal windows; ``windows``; ``timed``, what each process spent in them; and
        ``efficiency``, the share of their wall time that the slowest stage computed: what the throughput is of
        samples / (that stage's forward_s + learn_s), which no pipeline of these stages can exceed.
    """
    by_process: dict[int, list[Mapping[str, float]]] = {}
    for row in rows:
        if row["event"] == "epoch":
            by_process.setdefault(row.get("process", row["stage"]), []).append(row["time"])
    last = by_process[max(by_process)]
    epochs = len(last) - 1 - warm
    windows = min(NUM_WINDOWS, epochs)
    length = epochs // windows
    ends = [last[warm - 1 + i * length]["wall_s"] for i in range(windows + 1)]
    rates = [length * num_samples / (b - a) for a, b in zip(ends, ends[1:], strict=False)]
    first, final = warm - 1, warm - 1 + windows * length
    spent = [{k: t[final][k] - t[first][k] for k in t[first]} for _, t in sorted(by_process.items())]
    slowest = max(s["forward_s"] + s["learn_s"] for s in spent)
    return {
        "samples_per_s": statistics.median(rates), "windows": rates, "timed": spent,
        "efficiency": slowest / (ends[-1] - ends[0]),
    }  # fmt: skip


def bubble(result: Mapping[str, Any]) -> float:
    """Share of a whole run in which its busiest stage neither computes nor moves data.

    The run lasts from the moment all stages are ready to the last stage's last report, less the evaluation behind
    it: first fill and last drain are inside, and so is the first step's making of plans and optimizer state. The
    busiest stage is the one with the most ``forward_s + learn_s + transfer_s``; its waits for input, for room and
    for the coordinator, and its bookkeeping, are bubble. On a CUDA device a stage's time is the host's, and this says
    how long the host was idle.
    """
    busy = max(s["forward_s"] + s["learn_s"] + s["transfer_s"] for s in result["stages"])
    wall: float = result["wall_s"] - result["stages"][-1]["eval_s"]
    return float(1 - busy / wall)


def _peak(stages: Sequence[Row]) -> int | None:
    """Device bytes of all stages together."""
    found = [s["peak_device_bytes"] for s in stages if s["peak_device_bytes"] is not None]
    return sum(found) if found else None
