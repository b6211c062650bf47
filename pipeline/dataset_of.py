"""The data set of a config: its builder found by name, its options checked, its validation set held out."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.config import Config, of_every_dataset
from pipeline.data.dataset import Dataset, DataSpec
from pipeline.data.held_out import HeldOut
from pipeline.errors import ConfigError

__all__ = ["data_bytes", "find_dataset", "load_dataset"]


def data_bytes(data: DataSpec) -> int:
    """Bytes of memory that the samples take at least, as bytes where they are images or tokens, with their labels."""
    if data.is_mapped:
        return 0
    if data.stored_bytes:
        return data.stored_bytes
    narrow = len(data.input_shape) == 3 or data.num_tokens > 0
    labels = prod(data.task.label_shape) * data.task.label_dtype.itemsize
    count = data.num_train + data.num_validation + data.num_test
    return count * (prod(data.input_shape) * (1 if narrow else 4) + labels)


def load_dataset(config: Config, data_root: Path) -> Dataset:
    """The data set, found but not read.

    Raises:
        ConfigError: unknown name or option, or the data is not there.
    """
    return find_dataset(config, data_root)[0]


def find_dataset(config: Config, data_root: Path) -> tuple[Dataset, Mapping[str, Any]]:
    """The data set, with a sample in each split at least, and its options, complete.

    Raises:
        ConfigError: see :func:`load_dataset`.
    """
    name, options = config.dataset.name, dict(config.dataset.options)
    shared = {key: options.pop(key) for key in registry.options_of(of_every_dataset) if key in options}
    share = registry.check_options(of_every_dataset, shared, "dataset")["validation"]
    named = registry.resolve("pipeline.datasets", name, "data set", "dataset", options)
    dataset = _found(name, named, data_root)
    if share > 0:
        dataset = HeldOut(dataset, share, config.seed, name)
    return dataset, {**named.options, **({"validation": share} if share > 0 else {})}


def _found(name: str, named: registry.Named, data_root: Path) -> Dataset:
    """The data set, with a sample in each split at least."""
    try:
        dataset: Dataset = named.build(data_root, **named.options)
    except OSError as error:
        raise ConfigError(
            f"cannot read the data set {name} ({type(error).__name__}: {error}). See to its files, or "
            "name the folder that has them (--data-root or ONWARD_DATA)."
        ) from None
    if min(dataset.spec.num_train, dataset.spec.num_test, *dataset.spec.input_shape) < 1:
        raise ConfigError(
            f"the data set {name} is empty (given: {dataset.spec.num_train} training and "
            f"{dataset.spec.num_test} test samples of shape {dataset.spec.input_shape}, expected: at least 1 each). "
            "See to its files."
        )
    return dataset
