"""The one place where pickles are read: a pickle is a program, and reading it runs it.

Objects come from processes that this one has started, or from peers that have proved the run's key
(:func:`trusted`). A file that the user was given may only hold plain data (:func:`plain`).
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["plain", "trusted"]


def trusted(data: bytes) -> Any:
    """The object in ``data``. Whoever wrote ``data`` runs code here: it must come from this program itself."""
    return pickle.loads(data)


def plain(data: bytes) -> dict[str, Any]:
    """The dictionary in ``data``, which anyone may have written: of numbers, strings, lists and arrays of numbers.

    Strings of Python 2 are read as latin1.

    Raises:
        pickle.UnpicklingError: ``data`` asks for anything else, or is no pickle.
    """
    try:
        entry = _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
        if not isinstance(entry, dict):
            raise pickle.UnpicklingError(f"it holds a {type(entry).__name__}, and a dictionary is expected")
        return {key: value.array if isinstance(value, _Array) else value for key, value in entry.items()}
    except pickle.UnpicklingError:
        raise
    # Data that is not what it should be makes the machine of the format stumble in any way.
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


class _Kind:
    """Stands in for ``numpy.dtype``, whose own state a forged pickle could set to anything."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it holds an array of other things than numbers (given: {name!r})")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray``: filled from bytes, and from nothing else."""

    def __init__(self, *_: object) -> None:
        self.array: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, content = state
        # Pickles of Python 2 hold bytes as strings.
        filled = content if isinstance(content, bytes) else content.encode("latin1")
        self.array = np.frombuffer(filled, kind.dtype).reshape(shape, order="F" if is_fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode`` for the one encoding that pickles of bytes use; another codec might unpack a bomb."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text in another encoding (given: {encoding!r}, expected: latin1)")
    return text.encode("latin1")


_PLAIN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array, ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Kind, ("_codecs", "encode"): _encode,
}  # fmt: skip
"""What a pickled array names, under numpy 1 and 2. Pickles of protocol 5 name others; the data sets are older."""


class _PlainUnpickler(pickle._Unpickler):  # in Python: the one in C allocates what a forged pickle asks for
    """Finds nothing but what arrays are made of."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _PLAIN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain data is read") from None
