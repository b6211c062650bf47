"""MNIST row by row, 28 steps of 28 pixels: to name the digit, or to predict the next row."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from pipeline.data.augment import Augment
from pipeline.data.chunks import chunked, cut
from pipeline.data.dataset import ArrayDataset, Dataset, Normalisation, Split
from pipeline.data.position_tasks import Regression
from pipeline.datasets._idx import IdxOptions, build_idx
from pipeline.ranges import Natural

__all__ = ["build"]

_PIXELS = Normalisation(mean=(0.0,), std=(1.0,))


def build(
    root: Path, *, target: Literal["class", "next_row"] = "class", chunk: Natural = 0,
    options: IdxOptions = IdxOptions(normalise=False),
) -> Dataset:  # fmt: skip
    """Find MNIST: inputs (28, 28) of rows, one of 10 classes; or (27, 28), and the row behind each of them.

    Args:
        root: folder of all data sets.
        target: what is learned.
        chunk: rows of a sample, a divisor of 27 under ``next_row``; the next one of the same picture is in the next
            batch. 0: a sample is the whole picture.
        options: see :class:`IdxOptions`.

    Raises:
        ConfigError: see :func:`pipeline.datasets._idx.build_idx` and :func:`pipeline.data.chunks.chunked`.
    """
    scale = Normalisation(mean=(0.1307,), std=(0.3081,))
    images = build_idx("mnist_rows", root, "MNIST", scale, Augment(), options)
    _, height, width = images.spec.input_shape
    spec = replace(images.spec, input_shape=(height, width))
    if target == "next_row":
        spec = replace(spec, input_shape=(height - 1, width), task=Regression(width, (height - 1,)))
    return ArrayDataset(
        "mnist_rows", chunked(spec, chunk, "mnist_rows"), partial(_read, images, target, chunk),
        normalisation=images.normalisation,
        remedy=f"Delete {root / 'MNIST' / 'raw'} and let it be downloaded again.",
    )  # fmt: skip


def _read(images: Dataset, target: str, chunk: int) -> tuple[Split, Split]:
    train, test = (Split(split.x.squeeze(1), split.y) for split in images.load())
    if target == "class":
        return train, test
    scale = images.normalisation or _PIXELS
    first, second = (_next_rows(split, scale.mean[0], scale.std[0]) for split in (train, test))
    return cut((first, second), chunk)


def _next_rows(split: Split, mean: float, std: float) -> Split:
    """Each row and the one below it, that as the network would see it."""
    return Split(split.x[:, :-1].contiguous(), (split.x[:, 1:].to(torch.float32) / 255 - mean) / std)
