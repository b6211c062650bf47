"""The arms of a comparison: one config in several modes, on as many cores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.network.from_modules import UserModel
from pipeline.resolve import resolve
from pipeline.schedules.modes import find_mode
from workers.placement import Host, place

__all__ = ["Arm", "arms_of"]


@dataclass(frozen=True)
class Arm:
    """One of the runs that are compared."""

    name: str
    """Of its mode."""
    config: Config


def arms_of(
    config: Config, against: Sequence[str], host: Host, data_root: Path, model: UserModel | None = None
) -> list[Arm]:
    """The config's own mode, then the others, each checked before anything runs.

    Every arm has as many compute threads in all: those of the processes of the first, also where an arm is one process.

    Args:
        config: of the first arm.
        against: modes of the others.
        host: cores and GPUs.
        data_root: where data sets are.
        model: in place of the config's.

    Raises:
        ConfigError: a mode is unknown or named twice, or does not run this config.
    """
    own = config.schedule.mode
    names = [own, *against]
    for name in names:
        find_mode(name)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(
            f"a mode is compared with itself (given: {', '.join(against)} against {own}; expected: {twice[0]} once). "
            "Leave it out."
        )
    if not against:
        raise ConfigError("there is nothing to compare with (given: no mode). Name one, e.g. backprop.")
    if config.chaos.emulates:
        raise ConfigError(
            f"emulated compute learns nothing that could be compared (given: chaos.compute = {config.chaos.compute!r}, "
            "expected: 'real'). Change it."
        )
    placement = place(resolve(config, data_root, model), host)
    processes = 1 if placement.in_one_process else placement.replicas.num_processes
    arms = []
    for name in names:
        counts = list(placement.counts) if placement.counts else config.run.replicas
        run = replace(config.run, stages=placement.num_stages, threads=placement.threads, replicas=counts)
        if find_mode(name).is_one_stage and not find_mode(own).is_one_stage:
            run = replace(run, stages=1, replicas=1, partition="parameters", threads=placement.threads * processes)
        arm = replace(config, run=run, schedule=replace(config.schedule, mode=name))
        if name != own:
            _check(arm, host, data_root, model)
        arms.append(Arm(name, arm))
    return arms


def _check(config: Config, host: Host, data_root: Path, model: UserModel | None) -> None:
    """Raises ConfigError, with the arm's name, where it could not run."""
    try:
        place(resolve(config, data_root, model), host)
    except ConfigError as error:
        raise ConfigError(f"the arm {config.schedule.mode} cannot run: {error}") from None
