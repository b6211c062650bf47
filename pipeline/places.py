"""Where things lie unless they are named: configs, data sets and the folders of runs.

In a checkout they lie beside the packages. Of an installed distribution the configs come with it, and runs go to the
folder that the user is in.
"""

import importlib.metadata
import os
from pathlib import Path

from pipeline.errors import ConfigError

__all__ = ["default_config", "default_data_root", "runs_folder"]

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


def default_data_root() -> Path:
    """Where data sets are unless it is said; without a home, in the folder ``data`` beside the runs."""
    given = os.environ.get("ONWARD_DATA")
    try:
        return Path(given) if given else Path.home() / ".cache" / "onward"
    except RuntimeError:  # no $HOME, and no entry for this user
        return _base() / "data"


def runs_folder() -> Path:
    """Where the folders of runs that name none are made."""
    return _base() / "runs"


def _base() -> Path:
    """The checkout, else the folder that the user is in."""
    return _ROOT if (_ROOT / "launch.py").is_file() and (_ROOT / "setup.cfg").is_file() else Path.cwd()
