"""Where a trained network is read from: the folder of a run that has ended, or a file that was saved from one."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import Config
from pipeline.errors import ConfigError, DamagedFile
from pipeline.numerics.digest import combine, digest
from pipeline.records.files import jsonable
from pipeline.records.network_facts import NetworkFacts, read_facts
from pipeline.records.result_file import RESULT, check_has_weights, completed_result, no_run
from pipeline.records.snapshots import snapshot_folder
from pipeline.records.tensor_file import read_tensors
from pipeline.records.weights import load_blocks
from pipeline.trained.recipe import FORMAT, OWN

__all__ = ["Run", "Source", "is_file", "read_file", "read_run"]


class Run(Mapping[str, Any]):
    """A run that has ended: what stands in its ``result.json``, by name, and its folder.

    Args:
        folder: of the run.
        table: what stands in ``result.json``, where it is known: the disk may have refused the file.

    Raises:
        ConfigError: there is no run, or it has not ended well.
    """

    def __init__(self, folder: str | Path, table: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        if table is None:
            _config_of(self.folder)
        self._table = completed_result(self.folder) if table is None else dict(jsonable(table))

    @property
    def config(self) -> Config:
        """Complete, every default included."""
        return Config.from_dict(_config_of(self.folder))

    @property
    def weights(self) -> Path:
        """The folder of the weights: a file for each block and a manifest."""
        return Path(self._table.get("folder") or snapshot_folder(self.folder, int(self._table["steps"])))

    def __getitem__(self, name: str) -> Any:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, test={self._table.get('test')!r})"


@dataclass(frozen=True)
class Source:
    """Everything that a network is built from again."""

    name: str
    """For messages."""
    config: Config
    facts: NetworkFacts | None
    """None: the data set has to be asked."""
    result: Mapping[str, Any]
    threads: int
    epochs: int
    """Those that were trained."""
    states: list[dict[str, Tensor]] | None
    """Of every block under its rule; or None, and :attr:`tensors` are there."""
    tensors: Mapping[str, Tensor]
    """Of the network, by its own names."""
    own: list[dict[str, Tensor]]
    """What belongs to the rule of each block, beside :attr:`tensors`."""
    has_readouts: bool = True


def is_file(path: Path) -> bool:
    """A regular file is there; whatever else the system says of the path means that none is."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, a folder that must not be read
        return False


def read_run(run: Run) -> Source:
    """A run's network as its folder has it, each file of weights proved.

    Raises:
        ConfigError: the run has learned nothing, or something is missing or damaged.
    """
    check_has_weights(run.folder, run)
    try:
        return _run_source(run)
    except DamagedFile as error:
        raise ConfigError(str(error)) from None


def _run_source(run: Run) -> Source:
    """See :func:`read_run`."""
    try:
        weights, threads, epochs = run.weights, int(run["threads_per_stage"]), _epochs_of(run)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the run says too little (given: {run.folder / RESULT}: {error}). Name another run."
        ) from None
    states, stated = load_blocks(weights, chosen=True), run.get("weights_sha256")
    if stated is not None and combine([digest(state) for state in states]) != stated:
        raise DamagedFile(weights, "its weights are not those of the run's result")
    facts = read_facts(run.folder)
    return Source(f"the run {run.folder}", run.config, facts, dict(run), threads, epochs, states, {}, [])


def read_file(path: Path) -> Source:
    """A network that was saved to one file, proved.

    Raises:
        ConfigError: it is damaged, or something else.
    """
    try:
        found = read_tensors(path)
        about = found.about
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise DamagedFile(path, f"it is no network that was saved (expected: {FORMAT})")
        own = _own_of(found.tensors, int(about["result"]["num_blocks"]))
        network = {name: t for name, t in found.tensors.items() if not name.startswith(f"{OWN}/")}
        return Source(
            f"the file {path}", Config.from_dict(about["config"]), NetworkFacts.from_dict(about["network"]),
            about["result"], int(about["threads"]), _epochs_of(about["result"]), None, network, own,
            bool(about["readouts"]),
        )  # fmt: skip
    except DamagedFile as error:
        raise ConfigError(
            f"the file is damaged, or no network (given: {error.path}: {error.reason}). Name the folder of a run, or "
            "save the network again."
        ) from None
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"the file says too little (given: {path}: {error}). Save the network again.") from None


def _epochs_of(result: Mapping[str, Any]) -> int:
    """Epochs behind the weights of a network: all of its run, or those up to the one that was chosen."""
    trained, selection = int(result["epochs"]), result.get("selection", {})
    return int(selection["epoch"]) + 1 if "validation" in selection else trained


def _own_of(tensors: Mapping[str, Tensor], num_blocks: int) -> list[dict[str, Tensor]]:
    """What belongs to the rules, by block, under the names of the rule."""
    own: list[dict[str, Tensor]] = [{} for _ in range(num_blocks)]
    for name, tensor in tensors.items():
        if name.startswith(f"{OWN}/"):
            _, block, rest = name.split("/", 2)
            own[int(block)][rest] = tensor
    return own


def _config_of(folder: Path) -> dict[str, Any]:
    """The run's config as a table."""
    try:
        return tomllib.loads((folder / "config.toml").read_text(encoding="utf8"))
    except (OSError, ValueError):
        raise no_run(folder) from None
