"""The arms of a comparison: one config in several modes, on as many cores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config import Config
from pipeline.config.sections import RunConfig
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

    Every arm has as many compute threads in all as the processes of the first arm that has stages, and no more than
    there are cores where it is one process.

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
    lead = next((name for name in names if not find_mode(name).is_one_stage), own)
    runs = _runs(_in_mode(config, lead), host, data_root, model)
    arms = []
    for name in names:
        alone = find_mode(name).is_one_stage and name != lead
        arm = replace(_in_mode(config, name), run=runs[1 if alone else 0])
        if name != own:
            _check(arm, host, data_root, model)
        arms.append(Arm(name, arm))
    return arms


def _in_mode(config: Config, mode: str) -> Config:
    return replace(config, schedule=replace(config.schedule, mode=mode))


def _runs(config: Config, host: Host, data_root: Path, model: UserModel | None) -> tuple[RunConfig, RunConfig]:
    """Stages and threads as this config is placed, and one process with as many threads as these have in all.

    Stages on fewer cores have a thread each, and one process gains nothing from more threads than cores.
    """
    placement = place(resolve(config, data_root, model), host)
    processes = 1 if placement.in_one_process else placement.replicas.num_processes
    counts = list(placement.counts) if placement.counts else config.run.replicas
    whole = max(placement.threads, min(placement.threads * processes, host.cores))
    several = replace(config.run, stages=placement.num_stages, threads=placement.threads, replicas=counts)
    return several, replace(config.run, stages=1, replicas=1, partition="parameters", threads=whole)


def _check(config: Config, host: Host, data_root: Path, model: UserModel | None) -> None:
    """Raises ConfigError, with the arm's name, where it could not run."""
    try:
        place(resolve(config, data_root, model), host)
    except ConfigError as error:
        raise ConfigError(f"the arm {config.schedule.mode} cannot run: {error}") from None
