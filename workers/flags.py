"""Flags of the command line that mean nothing together."""

import argparse
import os

from pipeline.errors import ConfigError

__all__ = ["check_together"]


def check_together(options: argparse.Namespace) -> None:
    """Flags of a plan mean nothing to a run, nor those of a run to a plan.

    Raises:
        ConfigError: there is one without ``--plan``, or one of a run beside it.
    """
    if options.report is not None:
        _check_report(options)
    if options.sweep is not None:
        _check_sweep(options)
    plans = ("hosts", "link", "replicas", "device_speed")
    given = [name for name in plans if getattr(options, name) is not None]
    if given and not options.plan:
        flag = "--" + given[0].replace("_", "-")
        raise ConfigError(f"a run is not planned (given: {flag} without --plan). Add --plan, or leave it out.")
    if options.plan and options.generate is not None:
        raise ConfigError("a plan generates nothing (given: --plan with --generate). Leave one of them out.")
    if options.jobs is not None and options.sweep is None:
        raise ConfigError("a run is one job (given: --jobs without --sweep). Add --sweep, or leave it out.")
    if options.repeat is not None and options.against is None and options.sweep is None:
        raise ConfigError(
            "nothing is repeated (given: --repeat without --against). Add --against or --sweep, or leave it out."
        )
    if options.plan and options.resume is not None:
        raise ConfigError("a plan resumes nothing (given: --plan with --resume). Leave one of them out.")


def _check_report(options: argparse.Namespace) -> None:
    """Nothing but where it goes is asked of a report.

    Raises:
        ConfigError: something else is, or a rank of torchrun is asked.
    """
    if "RANK" in os.environ:
        raise ConfigError(
            "every rank would write the same (given: --report under torchrun, expected: without). Start it with python "
            "launch.py."
        )
    others = {name: value for name, value in vars(options).items() if name not in ("report", "out", "quiet")}
    given = [name for name, value in others.items() if value is not None and value is not False and value != []]
    if given:
        flag = options.overrides[0] if given[0] == "overrides" else "--" + given[0].replace("_", "-")
        raise ConfigError(f"a report changes no run (given: --report with {flag}). Leave one of them out.")


def _check_sweep(options: argparse.Namespace) -> None:
    """Flags of one run mean nothing to several.

    Raises:
        ConfigError: there is one, or a rank of torchrun is asked.
    """
    flags = ("plan", "resume", "allow_changes", "generate", "against", "evaluate", "predict")
    given = ["--" + name.replace("_", "-") for name in flags if getattr(options, name) not in (None, False)]
    if given:
        raise ConfigError(
            f"a sweep starts several runs (given: --sweep with {given[0]}). Leave one out; the same command with --out "
            "goes on with a sweep."
        )
    if "RANK" in os.environ:
        raise ConfigError(
            "a sweep starts its own processes (given: --sweep under torchrun, expected: without). Start it with python "
            "launch.py."
        )
