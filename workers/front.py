"""What ``import onward`` offers of runs: training and comparing that need no more than a config."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from pipeline import registry
from pipeline.config import Config, NamedConfig, load_config, of_every_dataset
from pipeline.data.augment import Augment
from pipeline.data.own_data import OwnData, write_own
from pipeline.errors import ConfigError
from pipeline.network.from_modules import UserModel
from pipeline.places import default_data_root
from pipeline.trained.sources import Run
from workers import run as runs
from workers.comparison.command import compare_modes
from workers.host.out_folder import check_out, named_or_new
from workers.listening.hooks import Hook, Hooks
from workers.listening.listened import listened
from workers.listening.logger import loggers_named
from workers.view.terminal import view_maker

__all__ = ["compare", "train"]

OWN = "mapped"
"""The data set that data which are handed over become."""
_KEPT = (*registry.options_of(of_every_dataset), *(field.name for field in fields(Augment)))
"""Options of the config's ``[dataset]`` that hold for them, too."""

Given: TypeAlias = Config | Mapping[str, Any] | str | Path
"""A config, or its tables as TOML would have them, or the path of a TOML file."""


def train(
    config: Given = Config(), *overrides: str, model: UserModel | None = None, data: OwnData | None = None,
    out: str | Path | None = None, data_root: str | Path | None = None, quiet: bool = False, log: Sequence[str] = (),
    on_step: Hook | None = None, on_epoch: Hook | None = None, on_end: Hook | None = None,
) -> Run:  # fmt: skip
    """Trains on this host, in processes of its own; returns the run.

    These processes import the script that calls this, so the call stands under ``if __name__ == "__main__":``.

    Args:
        config: the run; or its tables as TOML would have them; or the path of a TOML file.
        overrides: ``section.key=value``, as the command line has them.
        model: an ``nn.Sequential`` or a list of modules, one per block, in place of the config's ``[model]``. It is
            left as it is; :func:`pipeline.trained.build.load` returns the trained one.
        data: by split, ``train``, ``test`` and perhaps ``validation``, in place of the config's ``[dataset]``: a pair
            of inputs and labels, a map-style ``Dataset`` of torch, or a table of Hugging Face ``datasets``. They are
            written once, to a folder ``data-<digest>`` beside the run's own, and the run's config names that.
        out: the run's folder, new or empty; None for ``runs/<name>-<time>`` in the folder that the user is in.
        data_root: where data sets are; None for ``$ONWARD_DATA``, else ``~/.cache/onward``.
        quiet: nothing is shown on the terminal.
        log: loggers: ``csv``, ``tensorboard``, ``wandb``, ``trackio``, or dotted names of functions of one's own.
        on_step: is called with a stage's news, at most four times a second and stage: ``stage``, ``epoch``, ``step``,
            ``samples`` (trained so far), ``loss`` of its last block, ``fill`` (messages that wait in front of it).
        on_epoch: is called when all stages have finished an epoch: ``epoch`` (counted from 0), ``train_loss``,
            ``test_loss`` and ``test_accuracy`` of the network (None where not evaluated), ``blocks``, ``stages``.
        on_end: is called with what is in ``result.json``, also of a run that has failed.

    Hooks run in this process, one after another in a thread beside the run, which does not wait for them. What one
    raises is told and changes nothing; but :class:`pipeline.errors.Stop` ends the run in order.

    Raises:
        ConfigError: something is wrong with the config, or a logger is not there.
        WorkerFailed: a stage raised or died.
        NonFiniteError: a loss, weight or buffer is nan or infinite.
    """
    chosen, name = _config_of(config, overrides)
    _check_model(model)
    root = default_data_root() if data_root is None else Path(data_root)
    hooks = Hooks(on_step, on_epoch, on_end)
    make_view = listened(view_maker(quiet=quiet), loggers_named(log), hooks)
    with named_or_new(out, Path.cwd() / "runs", name) as folder:
        chosen = _with_data(chosen, data, folder)
        table = runs.train(chosen, out=folder, data_root=root, model=model, make_view=make_view)
    return Run(folder, table)


def compare(
    config: Given = Config(), *overrides: str, against: Sequence[str] = ("backprop",), repeat: int = 1,
    model: UserModel | None = None, data: OwnData | None = None, out: str | Path | None = None,
    data_root: str | Path | None = None, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Trains in the config's mode and in others, in turns, on the same seeds and cores; see :func:`compare_modes`.

    Args:
        config, overrides, model, data, data_root: see :func:`train`.
        against: modes of the others: ``backprop``, ``gpipe``, ``1f1b``, ``pipedream``, ``sequential``.
        repeat: rounds; each has a seed of its own.
        out: a new or empty folder; None for ``runs/<name>-against-<time>`` in the folder that the user is in.
        quiet: nothing is shown on the terminal.

    Returns:
        What is in ``compare.json``.

    Raises:
        ConfigError: see :func:`compare_modes`; or ``against`` is one name and no list.
        WorkerFailed, NonFiniteError, DiskError: see :func:`compare_modes`.
    """
    if isinstance(against, str):
        raise ConfigError(f"modes are a list (given: against={against!r}, expected: [{against!r}]). Change it.")
    chosen, name = _config_of(config, overrides)
    _check_model(model)
    root = default_data_root() if data_root is None else Path(data_root)
    with named_or_new(out, Path.cwd() / "runs", f"{name}-against") as folder:
        chosen = _with_data(chosen, data, folder)
        return compare_modes(
            chosen, against, repeat, out=folder, data_root=root, model=model, say=_say_nothing if quiet else _say
        )


def _config_of(config: Given, overrides: Sequence[str]) -> tuple[Config, str]:
    """The config, and a name for the folder of its run."""
    if isinstance(config, str | Path):
        loaded = load_config(Path(config), overrides)
        return loaded.config, loaded.name
    if not isinstance(config, Config | Mapping):
        raise ConfigError(
            f"this is no config (given: {type(config).__name__}, expected: a Config, tables of sections, e.g. "
            "{\"train\": {\"epochs\": 5}}, or the path of a TOML file). Pass one of them."
        )
    whole = config if isinstance(config, Config) else Config.from_dict(config)
    return whole.overridden(overrides), "run"


def _check_model(model: object) -> None:
    """Raises ConfigError unless it is a module, a list of modules, or None."""
    if model is None or isinstance(model, nn.Module):
        return
    if isinstance(model, list | tuple) and all(isinstance(part, nn.Module) for part in model):
        return
    given = f"model={model!r}" if isinstance(model, str) else f"model of {type(model).__name__}"
    move = "Build the network, and pass that."
    if isinstance(model, str):
        move = f"Name it among the overrides: \"model.name={model}\"."
    elif isinstance(model, list | tuple):
        wrong = next(part for part in model if not isinstance(part, nn.Module))
        given = f"model={type(model).__name__} with {type(wrong).__name__} in it"
    elif callable(model):
        name = getattr(model, "__name__", "it")
        given, move = f"model={name}, which is to be called", f"Call it: model={name}()."
    raise ConfigError(
        f"this is no network (given: {given}, expected: an nn.Sequential, or a list of modules, one for each block). "
        f"{move}"
    )


def _with_data(config: Config, data: OwnData | None, folder: Path) -> Config:
    """The config with what was handed over as its data set, written down beside ``folder``."""
    if data is None:
        return config
    check_out(folder)  # before anything is written
    own = registry.options_of(registry.load("pipeline.datasets", config.dataset.name, "data set"))
    if unknown := sorted({*config.dataset.options} - {*_KEPT, *own}):  # misspelt, and none of what is replaced
        raise ConfigError(
            f"unknown key (given: dataset.{unknown[0]} beside data that are handed over, expected: "
            f"{', '.join('dataset.' + key for key in _KEPT)}). {registry.nearest(unknown[0], [*_KEPT])}Correct or "
            "remove it."
        )
    kept = {key: config.dataset.options[key] for key in _KEPT if key in config.dataset.options}
    return replace(config, dataset=NamedConfig(name=OWN, options={**write_own(data, folder.resolve().parent), **kept}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_nothing(line: str) -> None:
    """For who wants no line."""
