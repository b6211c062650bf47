"""``result.json`` as whoever goes on from a run reads it: one message for each thing that may be wrong with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, one_line

__all__ = ["RESULT", "check_has_weights", "completed_result", "if_completed", "no_run"]

RESULT = "result.json"
"""Its name in the folder of a run."""
_NEXT = "Name another run, or repeat that one."


def completed_result(run: Path) -> dict[str, Any]:
    """``result.json`` of a run that has ended well.

    Args:
        run: its folder.

    Raises:
        ConfigError: there is no run, it has not ended or not well, or its result is damaged.
    """
    table = _result_of(run)
    if not isinstance(table, dict) or "status" not in table:
        raise ConfigError(
            f"this is not the result of a run (given: {run / RESULT}, expected: its status in it). {_NEXT}"
        )
    if table["status"] != "completed":
        raise ConfigError(
            f"the run is not complete (given: {run}, status: {table['status']}). Finish it with --resume {run}, or "
            "name another one."
        )
    return table


def _result_of(run: Path) -> Any:
    """What is in the file; of a run that goes on or was killed, that it has not ended."""
    path = run / RESULT
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        if (run / "config.toml").exists():
            return {"status": "not ended"}
        raise no_run(run) from None
    except (json.JSONDecodeError, UnicodeDecodeError, PermissionError) as error:
        raise ConfigError(
            f"the run's result cannot be read (given: {path}: {one_line(error)}; expected: JSON). {_NEXT}"
        ) from None
    except (OSError, ValueError):  # a file in place of a folder, or a name that no folder can have
        raise no_run(run) from None


def no_run(folder: Path) -> ConfigError:
    """There is none in a folder."""
    return ConfigError(
        f"there is no run (given: {folder}, expected: a folder that --out named, with config.toml and {RESULT} in "
        "it). Name another one."
    )


def if_completed(run: Path) -> dict[str, Any] | None:
    """``result.json`` of a run that has ended well; None of any other, and where there is no run."""
    try:
        return completed_result(run)
    except ConfigError:
        return None


def check_has_weights(run: Path, table: Mapping[str, Any]) -> None:
    """Refuses a run that has learned nothing. Args: its folder; what is in its result.

    Raises:
        ConfigError: its compute was emulated.
    """
    if table.get("emulated"):
        raise ConfigError(
            f"the run has no weights (given: {run}, whose compute was emulated by waiting). Name another run."
        )
