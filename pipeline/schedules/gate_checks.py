"""What is refused in the mode ``gated``: a gate that would never open, or under which epochs would pass in vain."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.config import Config, GateConfig, ScheduleConfig
from pipeline.errors import ConfigError
from pipeline.schedules.batching import Batching
from pipeline.schedules.modes import Mode, find_mode
from pipeline.schedules.wave import Staged

__all__ = ["check_gate", "gate_state_of", "unstarted"]


def check_gate(config: Config, mode: Mode, batching: Batching, num_blocks: int, frozen: Collection[int]) -> None:
    """Refuses a gate that does not fit the run.

    Args:
        config: of the run.
        mode: its mode; one without a gate is passed.
        batching: of the run.
        num_blocks: of the network.
        frozen: blocks that never learn.

    Raises:
        ConfigError: nothing would be measured; or under a wave a block would never start, nothing would learn in some
            epochs, or an epoch is to be chosen.
    """
    gate, steps = config.gate, config.gate.train_for * batching.num_steps
    if mode.is_gated and gate.is_wave and 0.0 < steps < 1.0:
        raise ConfigError(
            f"no block would take a step (given: gate.train_for = {gate.train_for:g} epochs of {batching.num_steps} "
            "steps, expected: at least one step, or 0). Raise gate.train_for."
        )
    if mode.is_gated and gate.measures:
        _check_probe(config, batching)
    elif mode.is_gated:
        _check_wave(config, num_blocks, frozen)
        if batching.num_validation:
            raise ConfigError(
                f"no epoch is chosen where blocks start one after another (given: gate.form = \"{gate.form}\" with "
                f"{batching.num_validation} samples for validation, expected: none). Leave dataset.validation out."
            )


def gate_state_of(table: Mapping[str, Any]) -> str:
    """What a block's snapshot holds of its gate, in words. Args: table, a config with or without every default."""
    gate, schedule = GateConfig(**table.get("gate", {})), ScheduleConfig(**table.get("schedule", {}))
    keeps = gate.measures and find_mode(schedule.mode).is_gated
    outputs = ", outputs" if gate.rest > 0.0 else ""
    return f"{gate.form}, {gate.probe_samples} samples{outputs}" if keeps else "nothing"


def unstarted(config: Config, mode: Mode, blocks: Sequence[Mapping[str, Any]]) -> str | None:
    """What is to be said of blocks that a triggered wave has not reached by a run's end; None where there are none.

    Args:
        config: of the run.
        mode: its mode.
        blocks: rows of ``result.json``.
    """
    gate = config.gate
    waiting = [row for row in blocks if row.get("gate") == 0.0 and "rests_since" not in row]
    if not (mode.is_gated and gate.is_wave and gate.train_for == 0.0 and waiting):
        return None
    numbers = ", ".join(str(row["block"]) for row in waiting)
    drifts = ", ".join(f"{row['drift']:.2g}" if "drift" in row else "unknown" for row in waiting)
    ranges = ", ".join("{:.2g} {:.2g} {:.2g}".format(*row["drifts"]) for row in waiting if "drifts" in row)
    of_all = f"; least, median and most after the epochs: {ranges}" if ranges else ""
    return (
        f"the wave has not reached the end: blocks that have not learned: {numbers}, whose inputs still move (drift: "
        f"{drifts}{of_all}; gate.tau = {gate.tau:g}). Raise gate.tau above the least of them, lower gate.memory, or "
        "train longer."
    )


def _check_probe(config: Config, batching: Batching) -> None:
    """Refuses a run in which no input is measured twice."""
    every, steps = config.gate.probe_every, config.train.epochs * batching.num_steps
    if steps <= every:
        raise ConfigError(
            f"the inputs of blocks would never be measured a second time (given: gate.probe_every = {every} in a run "
            f"of {steps} steps, expected: fewer). Lower gate.probe_every, or train longer."
        )


def _check_wave(config: Config, num_blocks: int, frozen: Collection[int]) -> None:
    """Refuses a wave under which blocks would not learn."""
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
