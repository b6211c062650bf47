"""Runs a method on a whole training set at once, and leaves the record of a run.

    python -m benchmarks.offline --method admm --config CONFIG --out DIR [--data-root DIR]

Of the config it takes the data set, ``model.width``, ``train.epochs`` (iterations), the options of ``[rule]`` for
codes, the seed and the threads.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cell_program import flags, run_program
from benchmarks.offline.admm import Admm
from benchmarks.offline.alternating import OfflineAlternating
from pipeline.config import Config, load_config
from pipeline.data.batches import Batches
from pipeline.data.dataset import Dataset, Split
from pipeline.errors import ConfigError
from pipeline.learning.codes import CodeSearch
from pipeline.records.files import write_json
from pipeline.records.run_record import Recorder
from pipeline.resolve import load_dataset
from workers.host.environment import run_header

__all__ = ["Method", "learn", "method_of"]

METHODS = ("alternating", "admm")


class Method(Protocol):
    """A net that is trained on all samples at once."""

    def iterate(self, x: Tensor, y: Tensor) -> None:
        """One outer iteration. Args: x (samples, features), y (samples,) int64."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pre-activations of every layer, the output's last."""


def method_of(name: str, config: Config, num_inputs: int, num_outputs: int) -> Method:
    """The method with its initial weights.

    Raises:
        ConfigError: the config is not of such a net, or has options of codes that the method does not know.
    """
    width = config.model.options.get("width")
    if config.model.name != "half_mlp" or not isinstance(width, list):
        raise ConfigError(
            f"training at once reads the widths of half_mlp (given: model.name = {config.model.name} with model.width "
            f"= {width}, expected: half_mlp with a list of widths). Name them."
        )
    widths = [num_inputs, *width, num_outputs]
    if name == "admm":
        return Admm(widths)
    known = CodeSearch.__dataclass_fields__
    search = CodeSearch(**{k: v for k, v in config.rule.options.items() if k in known})
    if search.sparsity:
        raise ConfigError(
            f"offline alternating minimisation has no sparsity (given: rule.sparsity = {search.sparsity}, expected: "
            "0). Leave it out."
        )
    if search.reduction != "features":
        raise ConfigError(
            f"offline alternating minimisation takes sums over features (given: rule.reduction = {search.reduction}, "
            "expected: features). Set it."
        )
    return OfflineAlternating(widths, search)


def learn(method: Method, iterations: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> list[Any]:
    """Accuracy and losses after each iteration: the entries of the output's block in a record. Training losses are
    those behind the iteration."""
    rows = []
    for _ in range(iterations):
        method.iterate(*train)
        out, seen = method.forward(test[0])[-1], method.forward(train[0])[-1]
        accuracy = (out.argmax(1) == test[1]).double().mean().item()
        losses = F.cross_entropy(out, test[1]).item(), F.cross_entropy(seen, train[1]).item()
        rows.append({"block": 0, "test_accuracy": accuracy, "test_loss": losses[0], "train_loss": losses[1]})
    return rows


def _whole(split: Split, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """All samples as the network would get them, flat, and their labels."""
    size, device = len(split.y), torch.device("cpu")
    x, y = Batches(split, dataset=dataset, batch_size=size, seed=0, device=device, train=False).batch(0, 0)
    return x.flatten(1), y


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, or 2 for a config that is wrong; anything else that goes wrong raises."""
    parser = flags(__doc__)
    parser.add_argument("--method", choices=METHODS, required=True)
    return run_program("benchmarks.offline", parser, _run, arguments)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    config = load_config(options.config).config
    threads = max(1, config.run.threads)
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    dataset = load_dataset(config, options.data_root)
    train, test = (_whole(split, dataset) for split in dataset.load())
    method = method_of(options.method, config, train[0].shape[1], dataset.spec.task.num_outputs)
    began = time.monotonic()
    rows = learn(method, config.train.epochs, train, test)
    _record(options.out, arguments, config, threads, rows, time.monotonic() - began)


def _record(
    out: Path, arguments: Sequence[str], config: Config, threads: int, rows: Sequence[Any], wall_s: float
) -> None:
    """What a run's folder has and the table reads."""
    out.mkdir(parents=True)
    recorder = Recorder(out / "record.jsonl")
    recorder.write(run_header(["-m", "benchmarks.offline", *arguments], config.to_dict(), threads, 1))
    for epoch, row in enumerate(rows):
        recorder.write({"event": "epoch", "epoch": epoch, "stage": 0, "blocks": [row]})
    recorder.close()
    write_json(out / "result.json", {
        "status": "completed", "num_blocks": 1, "epochs": len(rows), "steps": len(rows), "wall_s": wall_s,
        "threads_per_stage": threads, "device": "cpu",
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
