"""Folders of runs as far as a report reads them, written by hand: no run has to be waited for."""

import json

import numpy as np

from pipeline.config.toml_text import to_toml

ACTIVITIES = ("forward", "learn", "wait_recv", "wait_send", "transfer", "eval", "other")
HEADER = {
    "time_s": 1.8e9, "event": "header", "command": ["launch.py", "--quiet"], "python": "3.11.7",
    "commit": "0123456789ab", "cpu": "one", "cores": 2, "devices": [], "versions": {"torch": "2.13.0"},
    "memory_bytes": 2**34, "threads_per_stage": 1, "num_stages": 2,
}  # fmt: skip


def seconds(epoch, stage):
    """What a stage of two has done after so many epochs: it is at work for 3 of 4 seconds, or for 1."""
    share = {"forward": 0.25, "learn": 0.5, "wait_recv": 0.25} if stage == 0 else {"eval": 0.25, "wait_recv": 0.75}
    return {f"{name}_s": 4.0 * epoch * share.get(name, 0.0) for name in ACTIVITIES} | {"wall_s": 4.0 * epoch}


def epoch_row(epoch, stage, *, late=0.0, **scores):
    blocks = [
        {"block": k, "trained": True, "train_loss": 1.0 / (epoch + k + 1), "test_accuracy": 0.5 + 0.1 * epoch,
         "test_loss": 2.0 / (epoch + 1), "credit": None, **scores}
        for k in (2 * stage, 2 * stage + 1)
    ]  # fmt: skip
    return {
        "time_s": 1.8e9 + epoch, "event": "epoch", "epoch": epoch, "stage": stage, "blocks": blocks, "checked": epoch,
        "staleness": {"mean": late, "max": 1, "counts": [1]}, "samples": 10, "time": seconds(epoch + 1, stage),
        **({"fill": {"mean": 1.5, "max": 2}} if stage else {}),
    }  # fmt: skip


def result_table(epochs):
    stages = [
        {"stage": s, "replica": 0, "pid": s + 1, "blocks": [2 * s, 2 * s + 1], **seconds(epochs, s), "samples": 10,
         "peak_rss_bytes": 3 * 2**20, "peak_device_bytes": None, "parameter_bytes": 2**20, "optimizer_bytes": 2**21,
         "held_bytes": 2**19, "queue_bytes": 2**18}
        for s in (0, 1)
    ]  # fmt: skip
    return {
        "status": "completed", "num_blocks": 4, "num_stages": 2, "threads_per_stage": 1, "epochs": epochs,
        "wall_s": 4.0 * epochs, "train_samples_per_s": 1234.0, "test": {"accuracy": 0.75, "loss": 0.5},
        "stages": stages,
    }  # fmt: skip


def a_run(folder, *, epochs=3, config=None, late=0.0, result=None, scores=None, header=None):
    """A run of two stages with two blocks each. Args: result, in place of a good one; None in a list for no file."""
    folder.mkdir(parents=True)
    rows = [epoch_row(e, s, late=late, **(scores or {})) for e in range(epochs) for s in (1, 0)]
    lines = [{**HEADER, **(header or {})}, *rows]
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf8")
    table = {"rule": {"name": "pred"}, "model": {"name": "mlp"}, "dataset": {"name": "digits"},
             "schedule": {"mode": "parallel"}, **(config or {})}  # fmt: skip
    (folder / "config.toml").write_text(to_toml({"seed": 0, **table}), encoding="utf8")
    if result != []:
        (folder / "result.json").write_text(json.dumps(result or result_table(epochs)), encoding="utf8")
    return folder


def measured(folder):
    """The same with all that can be measured."""
    rows = [
        {"epoch": e, "angle_deg": 70.0, "depth_of_credit": None, "blocks": [
            {"block": k, "angle_deg": 80.0 - 5 * k, "test_accuracy": None if k < 3 else 0.9, "update": 0.1 * (k + e),
             "readout_accuracy": 0.5 if k < 3 else None, "credit": None} for k in range(4)
        ]} for e in (0, 3)
    ]  # fmt: skip
    (folder / "measurements").mkdir()
    (folder / "measurements.json").write_text(json.dumps({"num_blocks": 4, "epochs": rows}))
    axis = np.linspace(-1, 1, 8)
    values = np.broadcast_to(axis[None, None, None, :] * axis[None, None, :, None], (2, 4, 8, 8)).copy()
    levels = np.zeros((2, 4))
    levels[0], values[0] = np.nan, 2.0  # flat: no boundary
    maps = {"epochs": [0, 3], "x_axis": axis, "y_axis": axis, "values": values, "levels": levels}
    np.savez(folder / "measurements" / "maps.npz", **maps)
    points = np.random.default_rng(0).normal(size=(2, 1, 20, 2))
    np.savez(folder / "measurements" / "tsne.npz", epochs=[0, 3], blocks=[3], points=points, labels=np.arange(20) % 3)
    return folder


def traced(folder):
    """The same with a trace: two stages in turns, a second each, for ten seconds."""
    events = [
        {"ph": "X", "name": "forward" if (t + s) % 2 == 0 else "wait_recv", "pid": s + 1, "tid": s + 1, "ts": t * 1e6,
         "dur": 1e6, "args": {}} for t in range(10) for s in (0, 1)
    ]  # fmt: skip
    lines = ",\n".join(json.dumps(event) for event in events)
    (folder / "trace.json").write_text('{"displayTimeUnit": "ms", "traceEvents": [\n' + lines + "\n]}\n")
    return folder


def a_sweep(folder):
    """What --sweep leaves."""
    row = {"score_std": 0.1, "test_std": 0.1, "samples_per_s": 10.0, "epoch_s": 2.0, "peak_bytes": 2048.0}
    cells = [
        {**row, "cell": f"optimizer.lr={lr}", "values": {"optimizer.lr": lr}, "score": lr, "test": lr, "scores": [lr]}
        for lr in (0.1, 0.3)
    ]  # fmt: skip
    for cell in cells:
        a_run(folder / cell["cell"] / "seed-0", epochs=0, config={"optimizer": {"lr": cell["values"]["optimizer.lr"]}})
    table = {
        "keys": {"optimizer.lr": [0.1, 0.3]}, "seeds": [0], "selected_by": "test accuracy", "by_validation": False,
        "best": "optimizer.lr=0.3", "cells": cells, "is_complete": False,
        "failures": [{"cell": "optimizer.lr=0.1", "seed": 1, "error": "no luck"}],
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(table))
    return folder


def a_comparison(folder):
    """What --against leaves, without the files that no report reads."""
    arm = {
        "test": 0.75, "test_std": 0.1, "tests": [0.7, 0.8], "samples_per_s": 10.0,
        "samples_per_s_of_rounds": [9.0, 11.0], "epoch_s": 2.0, "peak_bytes": None, "memory": {"held_bytes": 2048},
        "rule": "pred", "num_stages": 2, "threads_per_stage": 1, "epochs": [3, 3], "failed": 0,
    }  # fmt: skip
    ratios = {"samples_per_s": 2.0, "samples_per_s_range": [1.5, 2.5], "epoch_s": 0.5, "peak_bytes": None, "test": 0.01}
    for name in ("parallel", "backprop"):
        a_run(folder / name / "seed-0", epochs=0)
    table = {
        "arms": {"parallel": arm, "backprop": arm}, "ratios": {"backprop": ratios}, "seeds": [0, 1], "order": [],
        "failures": [{"arm": "backprop", "seed": 1, "error": "no luck"}],
    }  # fmt: skip
    (folder / "compare.json").write_text(json.dumps(table))
    return folder
