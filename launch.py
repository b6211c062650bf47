"""Command of a run: ``torchrun launch.py --mode parallel`` or ``python launch.py --config configs/digits.toml``."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pipeline
from pipeline import registry
from pipeline.config import LoadedConfig, load_config
from pipeline.errors import ConfigError, DiskError, NonFiniteError, WorkerFailed
from pipeline.schedules.modes import MODES, find_mode
from workers.host.fork_server import warm_up
from workers.host.parent import die_with_parent

HERE = Path(__file__).resolve().parent
KINDS = {
    "rules": "pipeline.rules", "models": "pipeline.models", "data sets": "pipeline.datasets",
    "transports": "workers.transports",
}  # fmt: skip


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="launch.py", allow_abbrev=False,
        description="Train a network as a pipeline of processes in which no block waits for a backward pass.",
        epilog="Any config value can be overridden: rule.beta=0.9 train.epochs=5 model.width=512",
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="overrides a config value")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML; default: configs/digits.toml")
    parser.add_argument("--mode", choices=[mode.name for mode in MODES], help="default: the config's, else parallel")
    parser.add_argument("--stages", metavar="N", help="number of stage processes, or 'blocks': one per block")
    parser.add_argument("--transport", metavar="NAME", help=f"auto, {', '.join(registry.known(KINDS['transports']))}")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default: runs/<config>-<time>")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with that run, in its folder or in --out")
    parser.add_argument("--allow-changes", action="store_true", help="resume with another config than the run's")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="default: $ONWARD_DATA, else ~/.cache/onward")
    parser.add_argument("--trace", action="store_true", help="also write trace.json, a Chrome trace of every stage")
    parser.add_argument("--quiet", action="store_true", help="nothing on the terminal but errors")
    parser.add_argument("--list", action="store_true", help="print all modes, rules, models, data sets and transports")
    return parser.parse_intermixed_args(arguments)


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Overrides from flags, followed by those given as section.key=value, which win."""
    flags = {
        "schedule.mode": options.mode, "run.stages": options.stages, "transport.name": options.transport,
        "run.device": options.device, "run.trace": "true" if options.trace else None,
    }  # fmt: skip
    return [f"{key}={value}" for key, value in flags.items() if value is not None] + list(options.overrides)


def config_of(options: argparse.Namespace) -> Path:
    """The file to start from: that of the run that is resumed, unless another one is named.

    Raises:
        ConfigError: there is no run to resume.
    """
    if options.resume is not None and not (options.resume / "config.toml").is_file():
        raise ConfigError(
            f"there is no run to resume (given: --resume {options.resume}, expected: a folder that --out named, with "
            "config.toml in it). Name another one."
        )
    default = HERE / "configs" / "digits.toml" if options.resume is None else options.resume / "config.toml"
    return options.config or default


def show_list() -> None:
    """Print a line for each mode, rule, model, data set and transport (``--list``)."""
    print("modes:")
    for mode in MODES:
        print(f"  {mode.name:<16} {mode.summary}")
    for noun, package in KINDS.items():
        print(f"{noun}:")
        for name in registry.known(package):
            print(f"  {name:<16} {registry.summary(package, name)}")


def run(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """Runs under torchrun's ranks, or on this host."""
    if "RANK" in os.environ:
        die_with_parent()  # torchrun's agent
    else:
        warm_up(loaded.config.dataset.name)
    # Here, since importing torch takes a second or two: the fork server starts, and a misspelt key is reported, first.
    from workers.run import train
    from workers.torchrun import Ranks, run_rank
    from workers.view.terminal import view_maker

    origin = None
    if options.resume is not None:
        from workers.resume import open_origin

        origin = open_origin(options.resume, allow_changes=options.allow_changes)
    out = options.out or options.resume or HERE / "runs" / f"{loaded.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    data_root = options.data_root or Path(os.environ.get("ONWARD_DATA") or Path.home() / ".cache" / "onward")
    make_view = view_maker(quiet=options.quiet)
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    ranks = Ranks.from_environment()
    if ranks is None:
        train(loaded.config, out=out, data_root=data_root, make_view=make_view, command=command, origin=origin)
    else:
        run_rank(
            ranks, loaded.config, out=out, data_root=data_root, make_view=make_view, command=command, origin=origin
        )


def check_identity() -> None:
    """Another package named ``pipeline`` must not run in place of ours, here or in a stage's process."""
    found = Path(pipeline.__file__ or "").resolve().parent.parent
    if found != HERE:
        raise ConfigError(
            f"another package named 'pipeline' is imported (at {found}, expected: {HERE}). "
            "Run from the repository root."
        )


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end the run in order. Under ``nohup`` the latter is ignored, and stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda given, _: sys.exit(128 + given))


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, 1 a run failed, 2 the user's mistake, 130 interrupted, 143 or 129 ended by a signal."""
    end_on_signals()
    options = parse(arguments)
    logging.basicConfig(level=logging.ERROR if options.quiet else logging.WARNING, format="%(message)s")
    try:
        check_identity()
        if options.list:
            show_list()
            return 0
        loaded = load_config(config_of(options), overrides_of(options))
        find_mode(loaded.config.schedule.mode)  # before torch is imported for it
        run(options, loaded)
    except ConfigError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except (DiskError, NonFiniteError, WorkerFailed) as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("launch.py: interrupted; every stage has been stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    if status and "RANK" in os.environ:
        # Threads of the process group may wait for a rank that is gone: an orderly end would wait with them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
