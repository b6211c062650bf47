"""Trained blocks of another run, which a run starts from (``train.init_from``)."""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config import Config, TrainConfig
from pipeline.config.blocks import parse_blocks
from pipeline.data.augment import Augment
from pipeline.errors import ConfigError, DamagedFile
from pipeline.learning.rule import LearningRule
from pipeline.records.result_file import check_has_weights, completed_result
from pipeline.records.snapshots import Manifest, read_block, snapshot_folder
from pipeline.records.weights import chosen_weights

__all__ = ["InitialBlocks", "find_initial", "tell_seen_samples"]

logger = logging.getLogger(__name__)

_BLOCK = "block."
"""Before the names of what belongs to the block itself and not to its rule."""


@dataclass(frozen=True)
class InitialBlocks:
    """Blocks that start from those of another run. Picklable; the files are read where the blocks are built."""

    run: str
    """Its folder."""
    folder: Path
    """Of its weights."""
    files: Mapping[int, int]
    """By block that starts from there, the checksum of its file."""
    weights_sha256: str
    """Of the whole of that run."""

    def about(self) -> dict[str, Any]:
        """For the record."""
        return {"run": self.run, "weights_sha256": self.weights_sha256, "blocks": sorted(self.files)}

    def fill(self, rule: LearningRule) -> None:
        """Sets the weights and buffers of a block, if it starts from the run.

        What belongs to the rule (a decoder, a feedback matrix) comes along where all of it has the names and shapes
        that it had there; else it stays as it was drawn.

        Raises:
            ConfigError: the file is damaged, or the block is of another form.
        """
        block = rule.spec.index
        if block not in self.files:
            return
        try:
            tensors = read_block(self.folder, block, self.files[block]).tensors
        except DamagedFile as error:
            raise ConfigError(f"{error} Start from another run.") from None
        state = chosen_weights(tensors)
        own = rule.state_dict()
        if (difference := _difference(_of_block(state), _of_block(own))) is not None:
            raise ConfigError(
                f"block {block} cannot start from that of the run (given: {self.run}, {difference}). Name the blocks "
                "that are alike with train.init_blocks, or start from another run."
            )
        if _difference(state, own) is None:
            rule.load_state_dict(state)
        else:
            rule.load_state_dict(_of_block(state), strict=False)


def _of_block(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(_BLOCK)}


def _difference(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """The first difference in names, shapes or dtypes; None where there is none."""
    for name in sorted({*theirs, *own}):
        if name not in theirs or name not in own:
            return f"{name.removeprefix(_BLOCK)} is {'there' if name in theirs else 'here'} alone"
        there, here = theirs[name], own[name]
        if there.shape != here.shape or there.dtype != here.dtype:
            return (
                f"{name.removeprefix(_BLOCK)} is {tuple(there.shape)} in {there.dtype} there and {tuple(here.shape)} "
                f"in {here.dtype} here"
            )
    return None


def find_initial(train: TrainConfig, num_blocks: int) -> InitialBlocks | None:
    """The trained blocks that a run is to start from; None where it draws its weights.

    Args:
        train: names the run and the blocks.
        num_blocks: of the network.

    Raises:
        ConfigError: there is no such run, it has not ended well, its weights are damaged, or it has no such blocks.
    """
    if not train.init_from:
        if train.init_blocks != "":
            raise ConfigError(
                f"there is no run to start from (given: train.init_blocks = {train.init_blocks!r} without "
                "train.init_from). Name one with --init-from, or leave it out."
            )
        return None
    run = Path(train.init_from)
    table = _result_of(run)
    folder = Path(table.get("folder") or snapshot_folder(run, int(table.get("steps", 0))))
    try:
        manifest = Manifest.read(folder)
    except DamagedFile as error:
        raise ConfigError(f"{error} Start from another run, or repeat that one.") from None
    wanted = parse_blocks(train.init_blocks, num_blocks, "train.init_blocks") or list(range(num_blocks))
    _check_there(run, wanted, len(manifest.files), num_blocks, named=train.init_blocks != "")
    stated = manifest.weights_sha256 or str(table.get("weights_sha256"))
    return InitialBlocks(str(run), folder, {k: manifest.files[k] for k in wanted}, stated)


def tell_seen_samples(config: Config, initial: InitialBlocks | None) -> None:
    """Warns where samples that are held out for validation may have been trained on in the run that it starts from.

    Args:
        config: complete.
        initial: blocks of that run; None where it starts from none.
    """
    share = config.dataset.options.get("validation", 0.0)
    if initial is None or not share:
        return
    try:
        theirs = tomllib.loads((Path(initial.run) / "config.toml").read_text(encoding="utf8"))
    except (OSError, ValueError):  # its weights are all that is needed of it
        return
    data = theirs.get("dataset")
    if not isinstance(data, dict):
        return
    told = (theirs.get("seed"), data.get("validation", 0.0))
    if _samples_of(data) == _samples_of(config.to_dict()["dataset"]) and told != (config.seed, share):
        logger.warning(
            "the validation set may hold samples that blocks of %s were trained on, and then its scores are too good "
            "(there seed = %s and dataset.validation = %s, here %s and %s). Give both runs the same seed and share, or "
            "leave dataset.validation out.", initial.run, *told, config.seed, share,
        )  # fmt: skip


def _samples_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``[dataset]`` says which samples there are."""
    beside = ("validation", *(field.name for field in fields(Augment)))
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}
    return {key: value for key, value in values.items() if key not in beside and value is not None}


def _check_there(run: Path, wanted: Sequence[int], theirs: int, num_blocks: int, *, named: bool) -> None:
    """Refuses blocks that the run does not have, or a network of another depth whose blocks are not named."""
    if (not named and theirs != num_blocks) or wanted[-1] >= theirs:
        raise ConfigError(
            f"the run has other blocks (given: {run} with {theirs} blocks for a network of {num_blocks}, expected: "
            f"as many, or some of 0 to {min(theirs, num_blocks) - 1} in train.init_blocks). Name those that are alike."
        )


def _result_of(run: Path) -> dict[str, Any]:
    """``result.json`` of a run that has weights and has ended well."""
    try:
        table = completed_result(run)
        check_has_weights(run, table)
    except ConfigError as error:
        raise ConfigError(f"--init-from: {error}") from None
    return table
