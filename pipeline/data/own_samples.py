"""The samples of what a user hands over, a few at a time, as arrays that are checked."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError, one_line

__all__ = ["Array", "Chunk", "chunks_of", "count_of"]

Array: TypeAlias = NDArray[Any]
Chunk: TypeAlias = tuple[Array, Array]
"""Inputs (n, ...) and labels (n, ...) of consecutive samples."""

_ITEMS = 256
"""Samples of a chunk that are asked for one by one."""
_BYTES = 2**24
"""Of a chunk of an array, about."""
_LABELS = ("label", "labels", "y", "target")


def count_of(split: Any, name: str) -> int:
    """Samples of a split.

    Raises:
        ConfigError: there are none, inputs and labels differ in number, or it does not know how many it has.
    """
    if isinstance(split, tuple | list):
        if len(split) != 2:
            raise ConfigError(
                f"the {name} data are no pair (given: {len(split)} things, expected: inputs and labels). Pass (x, y)."
            )
        counts = [len(part) if hasattr(part, "__len__") and getattr(part, "ndim", 1) != 0 else 0 for part in split]
        if counts[0] != counts[1]:
            raise ConfigError(
                f"the {name} data have two lengths (given: {counts[0]} inputs and {counts[1]} labels, expected: as "
                "many). Correct them."
            )
        count = counts[0]
    elif hasattr(split, "__len__") and hasattr(split, "__getitem__"):
        count = len(split)
    else:
        raise ConfigError(
            f"the {name} data are none (given: {type(split).__name__}, expected: a pair (inputs, labels), a map-style "
            "Dataset with a length, or a table of Hugging Face datasets). Pass one of them."
        )
    if count == 0:
        raise ConfigError(f"the {name} data are empty (expected: at least 1 sample). Pass some.")
    return count


def chunks_of(split: Any, name: str) -> Iterator[Chunk]:
    """All samples of a split in their order, a few at a time.

    Args:
        split: a pair of inputs and labels, tensors or arrays; a map-style ``Dataset`` of torch, whose items are such
            pairs; or a table of Hugging Face ``datasets`` of two columns, one of them called label, labels, y or
            target. Pictures become (channels, height, width) of bytes.
        name: of the split, for messages.

    Raises:
        ConfigError: samples differ in shape or dtype, or are no numbers.
    """
    count = count_of(split, name)
    if isinstance(split, tuple | list):
        x, y = (_array(part, name) for part in split)
        size = max(1, _BYTES // max(x.nbytes // count, 1))
        for start in range(0, count, size):
            yield x[start : start + size], y[start : start + size]
        return
    columns = _columns(split, name)
    for start in range(0, count, _ITEMS):
        rows = range(start, min(start + _ITEMS, count))
        if columns is not None:
            table = split[rows.start : rows.stop]
            found = [[_array(value, name) for value in table[column]] for column in columns]
        else:
            found = [list(values) for values in zip(*(_item(split, index, name) for index in rows), strict=True)]
        yield _stacked(found[0], name, start), _stacked(found[1], name, start)


def _columns(split: Any, name: str) -> tuple[str, str] | None:
    """The columns of inputs and labels of a table; None of what is no table."""
    names = getattr(split, "column_names", None)
    if names is None:
        return None
    labels = [column for column in names if column in _LABELS]
    if len(names) != 2 or len(labels) != 1:
        raise ConfigError(
            f"the {name} table does not say what is predicted from what (given: columns {', '.join(map(str, names))}; "
            f"expected: two, one of them called {', '.join(_LABELS)}). Select and rename its columns."
        )
    inputs = next(column for column in names if column not in labels)
    return inputs, labels[0]


def _item(split: Any, index: int, name: str) -> tuple[Array, Array]:
    """One sample."""
    item = split[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        what = f"{len(item)} things" if isinstance(item, tuple | list) else type(item).__name__
        raise ConfigError(
            f"an item of the {name} data is no pair (given: {what} at {index}, expected: an input and a label). Return "
            "(x, y)."
        )
    return _array(item[0], name), _array(item[1], name)


def _array(value: Any, name: str) -> Array:
    """Numbers as an array; a picture as (channels, height, width), a palette looked up."""
    try:
        if isinstance(value, torch.Tensor):
            if value.dtype == torch.bfloat16:
                value = value.float()
            return np.asarray(value.detach().cpu().numpy())
        array = np.asarray(_looked_up(value, name) if hasattr(value, "getbands") else value)
    except ConfigError:
        raise
    except Exception as error:  # of the user's classes
        raise ConfigError(
            f"the {name} data are no numbers (given: {type(value).__name__}, {one_line(error)}; expected: tensors, "
            "arrays or numbers). Convert them."
        ) from None
    if hasattr(value, "getbands"):  # a picture of Pillow
        return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array


def _looked_up(image: Any, name: str) -> Any:
    """The picture, in its colours where it has a palette: pixels are then places in that."""
    if image.mode not in ("P", "PA"):
        return image
    # Imported here: who hands over a picture has imported Pillow, and nobody else waits for it.
    from pipeline.data.pictures import unclear

    if (given := unclear(image)) is not None:
        raise ConfigError(
            f"a picture of the {name} data is not clear (given: {given} in a palette, mode {image.mode}; expected: "
            "opaque ones). Convert it to RGB or RGBA."
        )
    return image.convert("RGB")


def _stacked(arrays: Sequence[Array], name: str, start: int) -> Array:
    """One array of samples. Args: start, place of the first one, for the message."""
    first = arrays[0]
    for place, array in enumerate(arrays):
        if array.shape != first.shape or array.dtype != first.dtype:
            raise ConfigError(
                f"the {name} samples differ (given: {first.dtype} of shape {first.shape} at {start}, {array.dtype} of "
                f"{array.shape} at {start + place}; expected: all alike). Correct them."
            )
    return np.stack(arrays)
