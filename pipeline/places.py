"""Where things lie unless they are named: the config of a run, and data sets.

Configs lie beside the packages in a checkout, and come with an installed distribution.
"""

import importlib.metadata
import os
from pathlib import Path

from pipeline.errors import ConfigError

__all__ = ["default_config", "default_data_root", "named_data_root"]

_ROOT = Path(__file__).resolve().parent.parent
_DISTRIBUTION = "onward-pipeline"
_CONFIG = "digits.toml"


def default_config() -> Path:
    """The config of a run that names none.

    Raises:
        ConfigError: it has not been installed.
    """
    beside = _ROOT / "configs" / _CONFIG
    if beside.is_file():
        return beside
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.name == _CONFIG]
    if not found or not found[0].is_file():
        raise ConfigError(
            f"the default config is not there (given: none, expected: {_CONFIG} of the distribution {_DISTRIBUTION}). "
            "Name a file with --config, or install it again."
        )
    return found[0].resolve()


def named_data_root() -> Path | None:
    """Where data sets are by this host's environment; None where it does not say."""
    given = os.environ.get("ONWARD_DATA")
    return Path(given) if given else None


def default_data_root() -> Path:
    """Where data sets are unless it is said; without a home, in the folder ``data`` of the one that the user is in."""
    try:
        return named_data_root() or Path.home() / ".cache" / "onward"
    except RuntimeError:  # no $HOME, and no entry for this user
        return Path.cwd() / "data"
