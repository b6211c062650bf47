"""Your own arrays in a folder of ``.npy`` files, memory-mapped: for data larger than memory."""

import json
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, DataSpec, Splits, SplitsDataset
from pipeline.data.int64 import in_int64
from pipeline.data.mapped import MappedArray, MappedSplit
from pipeline.data.own_task import own_task
from pipeline.errors import ConfigError
from pipeline.ranges import Natural

__all__ = ["build"]

_ABOUT = "data.json"


def build(
    root: Path, *, path: str, sha256: str = "", num_tokens: Natural = 0, augment: Augment = Augment()
) -> Dataset:
    """Find ``x_train.npy``, ``y_train.npy``, ``x_test.npy`` and ``y_test.npy``, and where there is a validation set
    ``x_validation.npy`` and ``y_validation.npy``.

    Inputs are (samples, ...): floating-point numbers, bytes of pixels, which are scaled to [0, 1], or with
    ``num_tokens`` tokens. Labels are whole numbers, (samples,) of one class each or (samples, positions, ...), or
    floating-point ones, (samples,), (samples, numbers) or (samples, positions, ..., numbers).

    Args:
        root: folder of all data sets.
        path: the folder, absolute or relative to ``root``.
        sha256: of data that were handed over to a run, as ``data.json`` in the folder says it; empty: any.
        num_tokens: different tokens, from 0; 0 where inputs are numbers.
        augment: augmentation of the training images.

    Raises:
        ConfigError: a file is not there or no array, arrays do not fit together, or the data are others.
    """
    folder = root / path
    _check_identity(folder, sha256)
    splits = {name: _Pair(folder, name) for name in ("train", "validation", "test") if _is_wanted(folder, name)}
    train = splits["train"]
    for pair in splits.values():
        pair.check(train, tokens=num_tokens > 0)
    task = own_task([pair.labels for pair in splits.values()], str(folder))
    spec = DataSpec(
        tuple(train.x.tensor.shape[1:]), task, train.count, splits["test"].count, is_mapped=True,
        is_augmented=not augment.is_identity, input_dtype=torch.int64 if num_tokens else torch.float32,
        num_tokens=num_tokens, num_validation=splits["validation"].count if "validation" in splits else 0,
        has_pixels=num_tokens == 0 and train.x.tensor.dtype == torch.uint8,
    )  # fmt: skip
    return MappedData(folder, spec, [*splits], augment)


class MappedData(SplitsDataset):
    """Arrays in a folder. Args: folder; spec; names of the splits; augment, of training images."""

    def __init__(self, folder: Path, spec: DataSpec, names: list[str], augment: Augment) -> None:
        self.spec, self.augment = spec, augment
        self._folder, self._names = folder, names

    def load_all(self) -> Splits:
        """See :class:`Dataset`: nothing is read but labels."""
        found = {name: _Pair(self._folder, name).split(self.spec) for name in self._names}
        return Splits(found["train"], found.get("validation"), found["test"])


class _Pair:
    """Inputs and labels of a split. Args: folder, of the files; name, of the split."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.folder = name, folder
        self.x, self.y = (MappedArray(folder / f"{kind}_{name}.npy") for kind in ("x", "y"))
        self.count, self.labels = len(self.x.tensor), self._labels()

    def check(self, train: "_Pair", *, tokens: bool) -> None:
        """Refuses arrays that do not fit together. Args: train, the training split; tokens, the inputs are."""
        x, y = self.x.tensor, self.labels
        if len(x) != len(y) or x.dim() < 2:
            raise ConfigError(
                f"the {self.name} arrays of {self.folder} do not fit together (given: x {tuple(x.shape)}, y "
                f"{tuple(y.shape)}, expected: (samples, ...) of as many samples). Correct them."
            )
        for kind, own, first in (("x", x, train.x.tensor), ("y", y, train.labels)):
            if own.shape[1:] != first.shape[1:] or own.dtype != first.dtype:
                raise ConfigError(
                    f"the samples of {self.folder} differ (given: {kind}_train of {first.dtype} and shape "
                    f"{tuple(first.shape)}, {kind}_{self.name} of {own.dtype} and {tuple(own.shape)}; expected: the "
                    "same dtype, and the same shape behind the first number). Correct them."
                )
        is_float = x.is_floating_point() or x.dtype == torch.uint8
        if x.is_floating_point() if tokens else not is_float:
            raise ConfigError(
                f"inputs of {self.folder} have another dtype (given: {x.dtype} with dataset.num_tokens "
                f"{'above 0' if tokens else '= 0'}, expected: floating-point numbers or bytes of pixels, or whole "
                "numbers and how many different tokens there are). Correct one of them."
            )

    def _labels(self) -> Tensor:
        """Mapped; in memory where torch has hardly more than a name for their dtype."""
        y = self.y.tensor
        if y.dtype in (torch.uint16, torch.uint32, torch.uint64):
            return torch.from_numpy(in_int64(y.numpy(), str(self.y.path)))
        return y

    def split(self, spec: DataSpec) -> MappedSplit:
        """The samples."""
        y = self.labels
        if y.dtype != spec.task.label_dtype:
            y = y.to(spec.task.label_dtype)
        return MappedSplit(self.x.tensor, y.reshape(len(y), *spec.task.label_shape), self.x)


def _is_wanted(folder: Path, name: str) -> bool:
    return name != "validation" or any((folder / f"{kind}_{name}.npy").exists() for kind in "xy")


def _check_identity(folder: Path, sha256: str) -> None:
    """Raises ConfigError unless the folder says that it holds the data of this digest, or any will do."""
    if not sha256:
        return
    try:
        found = json.loads((folder / _ABOUT).read_text(encoding="utf8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != sha256:
        given = f"{folder}, which has none" if found is None else f"{folder}, which has those of SHA-256 {found}"
        raise ConfigError(
            f"the data that were handed over to the run are not there (given: {given}; expected: those of SHA-256 "
            f"{sha256}). Put the folder back, or hand the same data over again and name the new one in dataset.path."
        )
