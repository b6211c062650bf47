"""Text as bytes, to predict each byte from those before it; a file, a folder, or Python's own manual of topics."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.chunking import Chunking
from pipeline.data.dataset import Dataset, DataSpec, Split
from pipeline.data.position_tasks import PositionClasses
from pipeline.data.windows import Stream
from pipeline.errors import ConfigError
from pipeline.ranges import Count, Natural

__all__ = ["build"]

_BYTES = 256


def build(
    root: Path, *, path: str = "", window: Count = 128, windows: Natural = 0, in_order: bool = False
) -> Dataset:  # fmt: skip
    """Find the text: inputs (window,) bytes, labels the byte behind each.

    The first nine tenths are for training, in windows drawn anew in every step; the last tenth is the test set, cut
    into windows side by side. Text is never decoded, so any file will do.

    With ``in_order`` training windows lie side by side too, and a batch has the ones that follow those of the batch
    before it: the text is cut into as many rows as a batch has, and recurrent layers carry their state along them.

    Args:
        root: folder of all data sets.
        path: a file, or a folder whose files are read in the order of their names, those whose names begin with a dot
            left out; absolute or relative to ``root``. Empty: the text of the standard library's
            ``pydoc_data.topics``, half a megabyte about Python.
        window: bytes that a sample has.
        windows: samples of an epoch; 0: as many as go into the training text side by side.
        in_order: windows follow each other; ``windows`` is then 0.

    Raises:
        ConfigError: there is no such file, no text, or less of it than a window in one of the splits; or a number of
            windows in order.
    """
    files = _files(root / path) if path else []
    length = sum(file.stat().st_size for file in files) if path else len(_embedded())
    where = str(root / path) if path else "pydoc_data.topics"
    cut = length - length // 10
    shortest = min(cut, length - cut)
    if shortest < window + 1:
        raise ConfigError(
            f"the text is too short for its windows (given: {where} of {length} bytes, of which {shortest} are the "
            f"smaller split, with dataset.window = {window}; expected: at least {window + 1}). Lower dataset.window, "
            "or name a longer text in dataset.path."
        )
    _check_order(in_order, windows)
    task = PositionClasses(_BYTES, (window,), is_bytes=True)
    num_train, num_test = windows or (cut - 1) // window, (length - cut - 1) // window
    spec = DataSpec(
        (window,), task, num_train, num_test, is_augmented=not in_order, input_dtype=torch.int64, num_tokens=_BYTES,
        stored_bytes=2 * length, chunking=Chunking(0) if in_order else None,
    )  # fmt: skip
    return TextDataset(spec, partial(_read, files) if path else _embedded, where, length, cut)


def _check_order(in_order: bool, windows: int) -> None:
    """Raises ConfigError where windows are to be in order, and a number of them."""
    if in_order and windows:
        raise ConfigError(
            f"windows in order are all of the text (given: dataset.in_order with dataset.windows = {windows}, "
            "expected: 0). Leave one of them out."
        )


class TextDataset(Dataset):
    """Bytes of a text and those behind them.

    Args:
        spec: of windows.
        read: picklable function that returns the text.
        where: the text's name, for error messages.
        length: of the text, in bytes.
        cut: where the test set begins.
    """

    def __init__(self, spec: DataSpec, read: Callable[[], bytes], where: str, length: int, cut: int) -> None:
        self.spec = spec
        self._read, self._where, self._length, self._cut = read, where, length, cut

    def load(self) -> tuple[Split, Split]:
        """See :class:`Dataset`; the training split is a :class:`Stream`, unless windows are in order."""
        try:
            content = self._read()
        except OSError as error:
            raise ConfigError(
                f"cannot read the text (given: {self._where}, {type(error).__name__}: {error}; expected: a file of "
                f"{self._length} bytes, or a folder of as many). See to its files."
            ) from error
        if len(content) != self._length:
            raise ConfigError(
                f"the text was changed while the run began (given: {self._where} of {len(content)} bytes, expected: "
                f"{self._length}). Start again."
            )
        text = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
        window, count = self.spec.input_shape[0], self.spec.num_test
        train, test = text[: self._cut], text[self._cut :]
        tested = Split(_side_by_side(test, count, window), _side_by_side(test[1:], count, window))
        if self.spec.chunking is not None:
            count = self.spec.num_train
            return Split(_side_by_side(train, count, window), _side_by_side(train[1:], count, window)), tested
        return Stream(train[:-1].clone(), train[1:].clone(), window, self.spec.num_train), tested


def _side_by_side(text: Tensor, count: int, window: int) -> Tensor:
    """The first ``count`` windows, (count, window)."""
    return text[: count * window].reshape(count, window).clone()


def _embedded() -> bytes:
    """The text of ``pydoc_data.topics``.

    Raises:
        ConfigError: this Python has been stripped of it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ConfigError(
            f"this Python has no text of its own (given: no dataset.path; {error}). Name a file or folder in "
            "dataset.path."
        ) from None
    return "\n".join(topics[name] for name in sorted(topics)).encode()


def _files(path: Path) -> list[Path]:
    """The files of a text.

    Raises:
        ConfigError: there are none.
    """
    if path.is_file():
        return [path]
    found = [p for p in sorted(path.rglob("*")) if p.is_file() and not _is_hidden(p.relative_to(path))]
    if not found:
        raise ConfigError(
            f"there is no text (expected: a file, or a folder with files, at {path}). Correct dataset.path, "
            "--data-root or ONWARD_DATA, or leave dataset.path out for a text that comes with Python."
        )
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read(files: list[Path]) -> bytes:
    """The contents of all files, one behind the other."""
    return b"".join(file.read_bytes() for file in files)
