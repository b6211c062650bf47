"""The arms of the memory benchmark: ways of training the same network on the same batches, each with its figures.

Every arm returns a row for each of its stages: parameters, heads, optimizer state, held activations, queues and peaks,
all in bytes.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.presets import PRESETS
from pipeline.config import Config
from pipeline.engine.in_flight import SavedTensors
from pipeline.network.block import build_block
from pipeline.records.time_budget import module_bytes, peak_device_bytes, peak_rss_bytes
from pipeline.resolve import load_dataset, resolve
from workers.run import train

__all__ = [
    "ARMS", "WORKLOADS", "MemoryArm", "Workload", "block_bytes", "config_of", "language_config_of", "our_run",
    "plain_backprop",
]  # fmt: skip

STEPS = 6
"""Optimizer steps of every run."""


@dataclass(frozen=True)
class MemoryArm:
    """One way of training the same network on the same batches."""

    name: str
    mode: str
    stages: int | str = 2
    microbatches: int = 0
    learn_after: str = "block"
    most_blocks: int = 64
    """No larger network: a process for each block is many processes."""


ARMS: tuple[MemoryArm, ...] = (
    MemoryArm("onward-2", "parallel"),
    MemoryArm("onward-2, 4 micro-batches", "parallel", microbatches=4),
    MemoryArm("onward-2, learning after the stage", "parallel", learn_after="stage"),
    MemoryArm("onward, a stage per block", "parallel", stages="blocks", most_blocks=16),
    MemoryArm("1f1b-2, 4 micro-batches", "1f1b", microbatches=4),
    MemoryArm("backprop", "plain", stages=1),
)


def config_of(arm: MemoryArm, blocks: int, width: int, batch: int, device: str) -> Config:
    """``blocks`` blocks of one width, the last of them the output block, linear decoders, Adam."""
    return _config(arm, batch, device, {
        "model": {"name": "mlp", "depth": blocks - 1, "width": width, "norm": "none"},
        "dataset": {"name": "noise", "shape": [width], "num_train": STEPS * batch, "num_test": batch},
        "rule": {"name": "linear_decoder"}, "optimizer": {"name": "adam", "lr": 1e-4},
    })  # fmt: skip


def language_config_of(arm: MemoryArm, blocks: int, width: int, batch: int, device: str) -> Config:
    """``blocks`` layers of a transformer, one to a block, each with a read-out of its own; otherwise ``lm-s``."""
    small = PRESETS["lm-s"]
    assert small.data is not None
    samples = {**small.data.options, "num_train": STEPS * batch, "num_test": batch}
    return _config(arm, batch, device, {
        "model": {"name": small.model.name, **small.model.options, "depth": blocks, "width": width},
        "dataset": {"name": small.data.name, **samples}, "rule": {"name": small.rule},
        "optimizer": {"name": small.optimizer.name, **small.optimizer.options},
    })  # fmt: skip


def _config(arm: MemoryArm, batch: int, device: str, sections: dict[str, Any]) -> Config:
    """What all networks have in common."""
    return Config.from_dict({
        **sections,
        "train": {"epochs": 1, "batch_size": batch, "microbatches": arm.microbatches},
        "schedule": {"mode": "backprop" if arm.mode == "plain" else arm.mode},
        "run": {"stages": arm.stages, "threads": 1, "device": device, "partition": "parameters",
                "timeout_s": 60.0, "learn_after": arm.learn_after},
    })  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """Networks of one kind and the ways in which they are trained."""

    config: Callable[[MemoryArm, int, int, int, str], Config]
    """Of an arm, so many blocks, their width, samples of an update, and the device."""
    arms: tuple[MemoryArm, ...]
    blocks: tuple[int, ...]
    """Of each network."""
    width: int
    batch: int


WORKLOADS = {
    "mlp": Workload(config_of, ARMS, (8, 16, 32, 64), width=512, batch=512),
    "lm": Workload(language_config_of, (
        MemoryArm("onward, a stage per block", "parallel", stages="blocks"),
        MemoryArm("1f1b, a stage per block, 4 micro-batches", "1f1b", stages="blocks", microbatches=4),
        MemoryArm("gpipe, a stage per block, 4 micro-batches", "gpipe", stages="blocks", microbatches=4),
        MemoryArm("onward-2", "parallel"),
        MemoryArm("1f1b-2, 4 micro-batches", "1f1b", microbatches=4),
        MemoryArm("gpipe-2, 4 micro-batches", "gpipe", microbatches=4),
        MemoryArm("backprop", "plain", stages=1),
    ), (8, 32), width=128, batch=16),
}  # fmt: skip


def block_bytes(config: Config) -> list[int]:
    """Parameters and buffers of every block, without what its rule adds to it."""
    found = resolve(config, Path())
    return [module_bytes([build_block(b, config.seed, k)]) for k, b in enumerate(found.blueprints)]


def our_run(config: Config) -> list[dict[str, Any]]:
    """A row for each stage, from ``result.json``; heads are the parameters that the rule adds to its blocks."""
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        stages = train(config, out=Path(folder) / "run", data_root=Path(folder))["stages"]
    own = block_bytes(config)
    rows = []
    for found in stages:
        first, last = found["blocks"]
        names = ("optimizer_bytes", "held_bytes", "queue_bytes", "peak_rss_bytes", "peak_device_bytes")
        parameters = sum(own[first : last + 1])
        rows.append({
            "stage": found["stage"], "blocks": last - first + 1, "parameter_bytes": parameters,
            "head_bytes": found["parameter_bytes"] - parameters, **{n: found[n] for n in names},
        })  # fmt: skip
    return rows


def plain_backprop(index: int, peer: Connection, config: Config) -> list[dict[str, Any]] | None:
    """Plain backpropagation: a Sequential, a fused optimizer, one process; a row as of :func:`our_run`."""
    if index == 1:
        return None
    found = resolve(config, Path())
    device = torch.device("cuda" if config.run.device == "cuda" else "cpu")
    blocks = [build_block(b, config.seed, k) for k, b in enumerate(found.blueprints)]
    net = nn.Sequential(*blocks).to(device)
    optimizer = found.optimizer.build(net.parameters())
    saved = SavedTensors(net.parameters())
    data = load_dataset(config, Path()).load()[0]
    for step in range(STEPS):
        rows = slice(step * config.train.batch_size, (step + 1) * config.train.batch_size)
        x, y = data.x[rows].to(device, copy=True), data.y[rows].to(device)  # a view would hold all data
        optimizer.zero_grad()
        with saved.watch():
            loss = found.data.task.loss(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    return [{
        "stage": 0, "blocks": len(blocks), "parameter_bytes": module_bytes([net]), "head_bytes": 0,
        "optimizer_bytes": sum(t.nbytes for t in state), "held_bytes": saved.num_bytes, "queue_bytes": 0,
        "peak_rss_bytes": peak_rss_bytes(), "peak_device_bytes": peak_device_bytes(device),
    }]  # fmt: skip
