"""Command of a run: ``torchrun launch.py --mode parallel`` or ``python launch.py --config configs/digits.toml``."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

import pipeline
import workers

HERE = Path(__file__).resolve().parent
for package in (pipeline, workers):  # another one must not run in place of ours, and lacks what is imported below
    if (found := Path(package.__file__ or "nowhere").resolve().parent.parent) != HERE:
        text = f"another package named {package.__name__!r} is imported (at {found}, expected: {HERE})"
        sys.stderr.write(f"{Path(sys.argv[0]).name}: {text}. Rename that one, or run from another folder.\n")
        sys.exit(2)

from pipeline import registry
from pipeline.config import LoadedConfig, load_config
from pipeline.errors import FAILURES, ConfigError, last_words, one_line
from pipeline.places import default_config, default_data_root, named_data_root
from pipeline.schedules.modes import MODES, find_mode
from workers.rank_end import tell_other_hosts
from workers.flag_parser import FlagParser
from workers.flags import check_together
from workers.host.fork_server import warm_up
from workers.host.limits import ensure_short_paths, raise_open_files
from workers.host.out_folder import dated, named_or_new, new_out_folder
from workers.host.parent import die_with_parent
from workers.host.signals import end_on_signals
from workers.host.streams import complain, end_output, line_writer, open_standard_streams, warnings_on_stderr
from workers.listing import list_lines


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = FlagParser(
        prog=program(), allow_abbrev=False,
        description="Train a network as a pipeline of processes in which no block waits for a backward pass.",
        epilog="Any config value can be overridden: rule.beta=0.9 train.epochs=5 model.width=512",
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="overrides a config value")
    parser.add_argument("--evaluate", type=Path, metavar="RUN", help="score a run's network; dataset.name=... another")
    parser.add_argument("--predict", nargs="+", type=Path, metavar=("RUN", "FILE"), help="answers: pictures, or .npz")
    parser.add_argument("--report", nargs="+", type=Path, metavar="RUN", help="write report.html about runs")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML; default: configs/digits.toml")
    parser.add_argument("--mode", choices=[mode.name for mode in MODES], help="default: the config's, else parallel")
    parser.add_argument("--stages", metavar="N", help="number of stage processes, or 'blocks': one per block")
    transports, loggers = (", ".join(registry.known(f"workers.{kind}")) for kind in ("transports", "loggers"))
    parser.add_argument("--transport", metavar="NAME", help=f"auto, {transports}")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default: runs/<config>-<time>")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with that run, in its folder or in --out")
    parser.add_argument("--init-from", type=Path, metavar="RUN", help="start from that run's trained blocks")
    parser.add_argument("--generate", type=int, metavar="N", help="run nothing; N bytes of text by --resume's run")
    parser.add_argument("--allow-changes", action="store_true", help="resume with another config than the run's")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="default: $ONWARD_DATA, else ~/.cache/onward")
    parser.add_argument("--trace", action="store_true", help="also write trace.json, a Chrome trace of every stage")
    parser.add_argument("--log", action="append", default=[], metavar="NAMES", help=f"some of {loggers}")
    parser.add_argument("--quiet", action="store_true", help="nothing on the terminal but errors")
    parser.add_argument("--plan", action="store_true", help="start no run; say what --stages 1,2,4 would do")
    parser.add_argument("--fresh", action="store_true", help="measure costs again that are known from before")
    parser.add_argument("--against", metavar="MODE,MODE", help="compare the config's mode with others: backprop,1f1b")
    parser.add_argument("--sweep", nargs="+", metavar="KEY=V,V", help="run a grid of values: optimizer.lr=1e-3,3e-3")
    parser.add_argument("--repeat", metavar="N", help="--against, --sweep: rounds, each with its own seed; default: 1")
    parser.add_argument("--jobs", metavar="N", help="--sweep: runs at once; default: 1")
    parser.add_argument("--hosts", metavar="H", help="--plan: hosts like this one; default: 1")
    parser.add_argument("--link", metavar="RATE,LATENCY", help="--plan: between hosts, or stages: 1Gbit,50us")
    parser.add_argument("--replicas", metavar="R", help="--plan: auto, or processes of each stage: 2, or 1,2,1")
    parser.add_argument("--device-speed", metavar="X", help="--plan: times as fast as this machine; default: 1.0")
    parser.add_argument("--list", action="store_true", help="print all there is to choose, and all options")
    return parser.parse_intermixed_args(arguments)


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Overrides from flags, followed by those given as section.key=value, which win."""
    flags = {
        "schedule.mode": options.mode, "run.stages": None if options.plan else options.stages,
        "transport.name": options.transport, "run.device": options.device,
        "run.trace": "true" if options.trace else None,
        "train.init_from": options.init_from and repr(str(options.init_from)),
    }  # fmt: skip
    return [f"{key}={value}" for key, value in flags.items() if value is not None] + list(options.overrides)


def config_of(options: argparse.Namespace) -> Path:
    """The file to start from: that of the run that is resumed, unless another one is named.

    Raises:
        ConfigError: there is no run to resume.
    """
    resume = options.resume if not follows() else None
    if resume is not None and not (resume / "config.toml").is_file():
        raise ConfigError(
            f"there is no run to resume (given: --resume {options.resume}, expected: a folder that --out named, with "
            "config.toml in it). Name another one."
        )
    return options.config or (default_config() if resume is None else resume / "config.toml")


def follows() -> bool:
    """This is a rank that has its job from the first one, which has the config and the run's folder."""
    return os.environ.get("RANK", "0") != "0"


def run(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """Runs under torchrun's ranks, or on this host."""
    if "RANK" in os.environ:
        die_with_parent()  # torchrun's agent
    else:
        warm_up(loaded.config.dataset.name)
    # Here, since importing torch takes a second or two: the fork server starts, and a misspelt key is reported, first.
    from workers.listening.listened import listened
    from workers.listening.logger import loggers_named
    from workers.ranks import Ranks, origin_of
    from workers.run import train
    from workers.torchrun import run_rank
    from workers.view.terminal import view_maker

    default = dated(runs_folder(), loaded.name)
    named_root = options.data_root or named_data_root()
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    ranks = Ranks.from_environment()
    origin = origin_of(ranks, options.out, options.resume, allow_changes=options.allow_changes)
    named = options.out or options.resume or (origin.run if origin is not None else None)
    make_view = view_maker(quiet=options.quiet, begins=origin.cut if origin is not None else None)
    make_view = make_view if follows() else listened(make_view, loggers_named(options.log))
    with nullcontext(named or default) if named or follows() else new_out_folder(default) as out:
        start = train if ranks is None else partial(run_rank, ranks, named_root=named_root)
        root = named_root or default_data_root()
        start(loaded.config, out=out, data_root=root, make_view=make_view, command=command, origin=origin)


def plan(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """Says what runs of this config would do (``--plan``).

    Raises:
        ConfigError: what is wrong with the config or the question.
    """
    from workers.planner.command import make_plan
    from workers.planner.question import question_of

    root = options.data_root or default_data_root()
    out = options.out or dated(runs_folder(), f"{loaded.name}-plan")
    question, say = question_of(options, loaded.config, root), line_writer(quiet=options.quiet)
    make_plan(loaded.config, question, out=out, data_root=root, say=say)


def make_text(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """Prints what the run that ``--resume`` names has learned to write (``--generate N``).

    Raises:
        ConfigError: the run is not one about text.
    """
    from workers.generate import generate  # which imports torch

    with suppress(BrokenPipeError):
        generate(loaded.config, options.resume, options.generate, options.data_root or default_data_root(), print)


def compare(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """Runs the config's mode and others in turns (``--against``).

    Raises:
        ConfigError: what is wrong with --repeat, the config or an arm.
    """
    from workers.comparison.command import compare_modes, rounds_of

    rounds, others = rounds_of(options.repeat), [name.strip() for name in options.against.split(",") if name.strip()]
    root = options.data_root or default_data_root()
    with named_or_new(options.out, runs_folder(), f"{loaded.name}-against") as out:
        say = line_writer(quiet=options.quiet)
        compare_modes(loaded.config, others, rounds, out=out, data_root=root, say=say)


def sweep(options: argparse.Namespace, loaded: LoadedConfig) -> None:
    """Runs the config over the values of some keys (``--sweep``).

    Raises:
        ConfigError: what is wrong with a key, a value or a cell.
    """
    from workers.sweep.command import asked, run_sweep

    grid, root = asked(options, loaded.config, overrides_of(options)), options.data_root or default_data_root()
    with named_or_new(options.out, runs_folder(), f"{loaded.name}-sweep") as out:
        run_sweep(*grid, out=out, data_root=root, say=line_writer(quiet=options.quiet))


def report(options: argparse.Namespace) -> int:
    """Writes a page about runs (``--report``), into the folder of a single one or into one of its own; returns 0.

    Raises:
        ConfigError: a library is missing, or something that was named is no run.
    """
    from workers.report.command import write_report

    only = options.report[0] if len(options.report) == 1 else None
    with named_or_new(options.out or only, runs_folder(), "report") as out:
        line_writer(quiet=options.quiet)(f"written: {write_report(options.report, out)}")
    return 0


def start(options: argparse.Namespace) -> Callable[[argparse.Namespace, LoadedConfig], None]:
    """What the command is to do with its config."""
    one = plan if options.plan else run if options.generate is None else make_text
    return sweep if options.sweep is not None else compare if options.against is not None else one


def program() -> str:
    """The name that the user has called this command by."""
    return "onward" if Path(sys.argv[0]).name == "onward" else "launch.py"


def runs_folder() -> Path:
    """Where a run goes that names no folder: in a checkout beside this file, else where the user is."""
    return (HERE if program() == "launch.py" and (HERE / "configs").is_dir() else Path.cwd()) / "runs"


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, 1 a run failed, 2 the user's mistake, 130 interrupted, 143 or 129 ended by a signal."""
    end_on_signals()
    options = parse(arguments)
    with warnings_on_stderr(options.quiet):
        return obey(options)


def obey(options: argparse.Namespace) -> int:
    """Does what the command says; the exit status, see :func:`main`."""
    try:
        if options.list:
            return show(list_lines())
        check_together(options)
        if options.evaluate is not None or options.predict is not None:
            from pipeline.trained.command import look  # which imports torch

            return show(look(options))
        if options.report is not None:
            return report(options)
        raise_open_files()
        ensure_short_paths()
        loaded = load_config(config_of(options), overrides_of(options))
        find_mode(loaded.config.schedule.mode)  # before torch is imported for it
        if options.fresh and not follows():
            from workers.cost_cache import ignore_older  # which imports torch

            ignore_older()
        start(options)(options, loaded)
    except ConfigError as error:
        return end(one_line(error), 2)
    except (*FAILURES, KeyboardInterrupt) as error:
        return end(last_words(error), 130 if isinstance(error, KeyboardInterrupt) else 1)
    except (OSError, MemoryError) as error:  # of the system, and not of what is written here
        reason = one_line(error) if str(error) else "no memory" if isinstance(error, MemoryError) else ""
        return end(f"the system refused ({type(error).__name__}{reason and f': {reason}'})", 1)
    return 0


def show(lines: Iterable[str]) -> int:
    """Prints lines until whoever reads them has seen enough: nothing else is done; returns 0."""
    with suppress(BrokenPipeError):
        for line in lines:
            print(line)
    return 0


def end(text: str, status: int) -> int:
    """Says why the command ends, on every host of a run that has not begun; returns ``status``."""
    complain(f"{program()}: {text}")
    tell_other_hosts(text, status)
    return status


def command() -> None:
    """The process of this command, from its first line to its exit status."""
    with suppress(OSError):  # the folder is gone
        sys.path.append(os.getcwd())  # for the user's own models and rules; last, so that nothing is hidden by it
    open_standard_streams()
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:
        if getattr(end, "__notes__", ()):  # told to end, in the middle of a run
            complain(f"{program()}: " + last_words(end))
        status = end.code if isinstance(end.code, int) else 1
    if (reason := end_output()) is not None:
        complain(f"{program()}: cannot write to standard output ({reason})")
        status = status or 1
    if status and "RANK" in os.environ:
        tell_other_hosts(f"rank {os.environ['RANK']} has ended with status {status}. Look at its output.", status)
        # Threads of the process group may wait for a rank that is gone: an orderly end would wait with them.
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    command()
