"""Flags of the command line that mean nothing together."""

import argparse

from pipeline.errors import ConfigError

__all__ = ["check_together"]


def check_together(options: argparse.Namespace) -> None:
    """Flags of a plan mean nothing to a run, nor those of a run to a plan.

    Raises:
        ConfigError: there is one without ``--plan``, or one of a run beside it.
    """
    plans = ("hosts", "link", "replicas", "device_speed")
    given = [name for name in plans if getattr(options, name) is not None]
    if given and not options.plan:
        flag = "--" + given[0].replace("_", "-")
        raise ConfigError(f"a run is not planned (given: {flag} without --plan). Add --plan, or leave it out.")
    if options.plan and options.generate is not None:
        raise ConfigError("a plan generates nothing (given: --plan with --generate). Leave one of them out.")
    if options.repeat is not None and options.against is None:
        raise ConfigError("nothing is repeated (given: --repeat without --against). Add --against, or leave it out.")
    if options.init_from is not None:
        names = ("plan", "resume", "generate", "evaluate", "predict")
        others = [name for name in names if getattr(options, name) not in (None, False)]
        if others:
            raise ConfigError(
                f"only a new run starts from another one (given: --init-from with --{others[0]}). Leave one of them "
                "out."
            )
    if options.plan and options.resume is not None:
        raise ConfigError("a plan resumes nothing (given: --plan with --resume). Leave one of them out.")
