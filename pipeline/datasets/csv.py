"""Your own table of numbers, a row for each sample: text files with a column of labels."""

import csv
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split, Splits
from pipeline.data.float32 import in_float32
from pipeline.data.int64 import in_int64
from pipeline.data.own_task import own_task
from pipeline.errors import ConfigError, one_line
from pipeline.ranges import Natural

__all__ = ["build"]

_TAKEN = "0123456789+-.eE_\"\r\n\0"
"""Parts of numbers, of quoted names and of lines."""


def build(
    root: Path, *, path: str, test_path: str, validation_path: str = "", label: Natural | str = "",
    labels: Literal["classes", "numbers"] = "classes", delimiter: str = ",",
) -> Dataset:  # fmt: skip
    """Find the tables: inputs (columns - 1,) float32, and one class or one number for each sample.

    A first line with anything but numbers in it names the columns. Everything behind it has to be a number.

    Args:
        root: folder of all data sets.
        path: the file of the training samples, absolute or relative to ``root``.
        test_path: that of the test samples, with the same columns.
        validation_path: that of the samples for validation; empty: there is none.
        label: the column of labels, by its name or its number from 0; empty: the last one.
        labels: what they are; classes are whole numbers from 0.
        delimiter: between two columns; one character that numbers and quoted names do not have.

    Raises:
        ConfigError: a file is not there, has text or too few columns in it, or the files do not fit together.
    """
    files = {"train": root / path, "test": root / test_path}
    if validation_path:
        files["validation"] = root / validation_path
    tables = {name: _table(file, delimiter) for name, file in files.items()}
    named, width = tables["train"][0], tables["train"][1].shape[1]
    _check_alike(files, tables)
    column = _column(str(label), named, width, files["train"])
    found = {name: _labels(table, column, labels, files[name]) for name, (_, table) in tables.items()}
    counts = {name: len(y) for name, y in found.items()}
    spec = DataSpec(
        (width - 1,), own_task([*found.values()], str(files["train"])), counts["train"], counts["test"],
        num_validation=counts.get("validation", 0), has_pixels=False,
    )  # fmt: skip
    read = partial(_read, files, delimiter, column, labels)
    return ArrayDataset("csv", spec, read, remedy=f"Start again: {files['train']} was changed meanwhile.")


def _check_alike(files: dict[str, Path], tables: dict[str, tuple[tuple[str, ...], np.ndarray]]) -> None:
    """Refuses tables of other columns than those of the training samples, and names that are not one for each."""
    named, width = tables["train"][0], tables["train"][1].shape[1]
    for name, (names, table) in tables.items():
        if table.shape[1] != width or width < 2:
            raise ConfigError(
                f"the tables do not fit together (given: {files[name]} of {table.shape[1]} columns, {files['train']} "
                f"of {width}; expected: as many, 2 or more). Correct them, or dataset.delimiter."
            )
        if names and len(names) != width:
            raise ConfigError(
                f"the columns have not one name each (given: {files[name]} with the names {', '.join(names)}, and "
                f"{width} columns; expected: as many). Correct its first line, or dataset.delimiter."
                f"{_about_comment(names[0])}"
            )
        if names and named and names != named:
            raise ConfigError(
                f"the tables have other columns (given: {', '.join(names)} in {files[name]}, {', '.join(named)} in "
                f"{files['train']}; expected: the same in the same order). Correct one of them."
            )


def _read(
    files: dict[str, Path], delimiter: str, column: int, labels: Literal["classes", "numbers"]
) -> Splits:
    found = {name: _split(_table(file, delimiter)[1], column, labels, file) for name, file in files.items()}
    _parsed.cache_clear()  # the samples are copies of their own
    return Splits(found["train"], found.get("validation"), found["test"])


def _split(table: np.ndarray, column: int, labels: Literal["classes", "numbers"], file: Path) -> Split:
    """Inputs and labels."""
    x = torch.from_numpy(np.delete(table, column, axis=1).astype(np.float32))
    return Split(x, _labels(table, column, labels, file))


def _labels(table: np.ndarray, column: int, labels: Literal["classes", "numbers"], file: Path) -> Tensor:
    """(rows,) int64 of classes, or (rows, 1) float32."""
    y = table[:, column]
    if labels == "classes" and (y != np.floor(y)).any():
        wrong = y[y != np.floor(y)][0]
        raise ConfigError(
            f"the labels of {file} are no classes (given: {wrong}, expected: whole numbers from 0). Correct them, or "
            "set dataset.labels to \"numbers\"."
        )
    if labels == "classes":
        return torch.from_numpy(in_int64(y, str(file)))
    return torch.from_numpy(y.astype(np.float32)).unsqueeze(1)


def _column(label: str, names: tuple[str, ...], width: int, file: Path) -> int:
    """The place of the column of labels."""
    if not label:
        return width - 1
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < width:
        return int(label)
    known = ", ".join(names) if names else f"0 to {width - 1}"
    raise ConfigError(
        f"there is no such column (given: dataset.label = {label!r} of {file}, expected: {known}). Correct it."
        f"{_about_comment(names[0]) if names else ''}"
    )


def _table(file: Path, delimiter: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the columns, and the numbers, (rows, columns) float64, never to be written to."""
    if len(delimiter) != 1 or delimiter in _TAKEN:
        raise ConfigError(
            f"columns are apart by one character (given: dataset.delimiter = {delimiter!r}, expected: one that does "
            "not stand in a number, no quote and no end of a line, e.g. \",\"). Change it."
        )
    try:
        state = file.stat()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no table (expected: a file at {file}). Correct dataset.path, dataset.test_path, --data-root or "
            "ONWARD_DATA."
        ) from None
    return _parsed(file, delimiter, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=6)
def _parsed(file: Path, delimiter: str, changed_ns: int, size: int) -> tuple[tuple[str, ...], np.ndarray]:
    """See :func:`_table`; a file that has not changed is read once in a process."""
    try:
        with file.open(encoding="utf-8-sig") as lines:
            first = [cell.strip() for cell in next(csv.reader([lines.readline()], delimiter=delimiter), [])]
        # A cell without anything is a missing number, not a name: else the first sample would be lost.
        names = () if all(not cell or _is_number(cell) for cell in first) else tuple(c.strip("'") for c in first)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that there are no rows: said below
            table = np.loadtxt(
                file, delimiter=delimiter, skiprows=1 if names else 0, ndmin=2, encoding="utf-8-sig", quotechar="\"",
                comments=None,
            )  # fmt: skip
    except (ValueError, UnicodeError, csv.Error) as error:
        raise ConfigError(
            f"the table has something else than numbers in it (given: {file}, {one_line(error)}, rows counted without "
            "the names; expected: numbers). Correct that, give classes as whole numbers, or leave the column out."
            f"{_about_comment(str(error).partition(chr(39))[2])}"
        ) from None
    if not len(table):
        raise ConfigError(f"the table is empty (given: {file}, expected: at least 1 row of numbers). Correct it.")
    in_float32(
        table, "the table has", lambda at: f"row {at[0]}, column {at[1]} of {file}, from 0, without the names", "row"
    )  # classes are read from float64
    return names, table


def _about_comment(cell: str) -> str:
    """The next move where a cell looks like a comment, as ``numpy.savetxt`` writes its header."""
    return " A line that begins with # is no comment here: take the sign away, or the line." if cell[:1] == "#" else ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
