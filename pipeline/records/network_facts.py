"""``network.json``: what a run's network takes and gives, so that it can be built again where its data set is not."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.data.dataset import Normalisation
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Binary, Classification, Logistic, Task
from pipeline.errors import DamagedFile
from pipeline.records.files import write_json

__all__ = ["NetworkFacts", "read_facts", "write_facts"]

_FILE = "network.json"
_TASKS: Mapping[str, type[Task]] = {
    "classification": Classification, "logistic": Logistic, "binary": Binary,
    "position_classes": PositionClasses, "regression": Regression,
}  # fmt: skip


@dataclass(frozen=True)
class NetworkFacts:
    """What the data set of a run has to do with its network."""

    input_shape: tuple[int, ...]
    """Of one sample."""
    task: Task | None
    """None: one of the user's own, which its data set has to bring."""
    normalisation: Normalisation | None
    structure: bytes | None = None
    """See :mod:`pipeline.network.structure`; None where the config names the network."""
    num_train: int = 0
    """Training samples: a rule may keep something of each."""
    input_dtype: torch.dtype = torch.float32
    """Of samples: an integer dtype for tokens."""
    data_sha256: str = ""
    """Of the data that were handed over to the run; empty where its config names a data set."""
    has_pixels: bool | None = None
    """Samples were bytes of pixels, which are divided by 255; None where the data set, or an earlier version, has not
    said it."""
    num_tokens: int = 0
    """Different tokens, from 0; 0 where samples are numbers, or an earlier version has not written it."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        task = next((name for name, kind in _TASKS.items() if type(self.task) is kind), None)
        scale = self.normalisation
        return {
            "input_shape": list(self.input_shape), "task": task,
            "num_outputs": self.task.num_outputs if task is not None and self.task is not None else None,
            "positions": list(self.task.positions) if self.task is not None else [],
            "headline": self.task.headline if self.task is not None else None,
            "normalisation": None if scale is None else {"mean": list(scale.mean), "std": list(scale.std)},
            "structure": None if self.structure is None else base64.b64encode(self.structure).decode(),
            "num_train": self.num_train, "input_dtype": str(self.input_dtype).removeprefix("torch."),
            **({"data_sha256": self.data_sha256} if self.data_sha256 else {}), "num_tokens": self.num_tokens,
            "has_pixels": self.has_pixels,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "NetworkFacts":
        """From :meth:`to_dict`. Raises ValueError, KeyError or TypeError where it is something else."""
        kind, scale, structure = table["task"], table["normalisation"], table["structure"]
        dtype = getattr(torch, table.get("input_dtype", "float32"), None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"no dtype: {table['input_dtype']}")
        return cls(
            tuple(map(int, table["input_shape"])), None if kind is None else _task(kind, table),
            None if scale is None else Normalisation(tuple(scale["mean"]), tuple(scale["std"])),
            None if structure is None else base64.b64decode(structure, validate=True),
            int(table.get("num_train", 0)), dtype, str(table.get("data_sha256", "")),
            table.get("has_pixels"), int(table.get("num_tokens", 0)),
        )  # fmt: skip


def _task(kind: str, table: Mapping[str, Any]) -> Task:
    """The task of a name. Raises KeyError, ValueError or TypeError where there is none."""
    if kind == "binary":
        return Binary()
    num_outputs, positions = int(table["num_outputs"]), tuple(map(int, table.get("positions", ())))
    if kind == "regression":
        return Regression(num_outputs, positions)
    if kind == "position_classes":
        return PositionClasses(num_outputs, positions, is_bytes=table["headline"] == "bits_per_byte")
    return _TASKS[kind](num_outputs)  # type: ignore[call-arg]


def write_facts(run: Path, facts: NetworkFacts) -> None:
    """Writes ``network.json`` into a run's folder. Raises OSError where the disk refuses."""
    write_json(run / _FILE, facts.to_dict())


def read_facts(run: Path) -> NetworkFacts | None:
    """Those of a run; None where an earlier version has not written them.

    Raises:
        DamagedFile: they cannot be read.
    """
    path = run / _FILE
    try:
        return NetworkFacts.from_dict(json.loads(path.read_text(encoding="utf8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(path, f"{type(error).__name__}: {error}") from None
