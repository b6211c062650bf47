"""What is refused in the mode ``gated``: a wave under which nothing would be learned for whole epochs, or never."""

from collections.abc import Collection

from pipeline.config import Config
from pipeline.data.dataset import DataSpec
from pipeline.errors import ConfigError
from pipeline.schedules.modes import Mode
from pipeline.schedules.wave import Staged

__all__ = ["check_gate"]


def check_gate(config: Config, mode: Mode, data: DataSpec, num_blocks: int, frozen: Collection[int]) -> None:
    """Refuses a wave that does not fit the run.

    Args:
        config: of the run.
        mode: its mode; one without a gate is passed.
        data: the data set.
        num_blocks: of the network.
        frozen: blocks that never learn.

    Raises:
        ConfigError: a block would never start, nothing would learn in some epochs, or an epoch is to be chosen.
    """
    if not mode.is_gated:
        return
    gate, epochs = config.gate, config.train.epochs
    last = Staged(num_blocks, epochs, gate, frozen=frozenset(frozen)).starts[-1]
    if last >= epochs:
        raise ConfigError(
            f"the last block would never start (given: gate.delay = {gate.delay:g}, by which it starts after "
            f"{float(last):g} epochs, with train.epochs = {epochs}; expected: fewer). Lower gate.delay, or "
            "train longer."
        )
    if 0.0 < gate.train_for < gate.delay and last > 0:
        raise ConfigError(
            f"between a block's end and the next one's start nothing would be learned (given: gate.train_for = "
            f"{gate.train_for:g} with gate.delay = {gate.delay:g}, expected: at least that, or 0). Change one of them."
        )
    if gate.train_for and epochs - 1 - last >= gate.train_for:
        raise ConfigError(
            f"every block would be frozen before the last epoch (given: train.epochs = {epochs}, with a last block "
            f"that learns from {float(last):g} epochs on for gate.train_for = {gate.train_for:g}, expected: fewer "
            f"epochs). Lower train.epochs, or set gate.train_for to 0."
        )
    if data.num_validation:
        raise ConfigError(
            f"no epoch is chosen where blocks start one after another (given: the mode {mode.name} with "
            f"{data.num_validation} samples for validation, expected: none). Leave dataset.validation out."
        )
