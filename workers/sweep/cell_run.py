"""One run of a sweep: started, or taken up where it was cut short, and what it has come to."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.toml_text import to_toml
from pipeline.errors import ConfigError
from pipeline.records.files import write_text
from pipeline.records.result_file import if_completed
from workers.result_keys import differences
from workers.sweep.axes import Cell
from workers.sweep.child import Child, launch_command

__all__ = ["CellRun", "check_same"]


@dataclass(frozen=True)
class CellRun:
    """A run that goes on in a process of its own."""

    child: Child
    out: Path
    """Its folder."""
    errors: Path
    """What it writes to standard error; goes where the run completes."""

    @classmethod
    def start(cls, cell: Cell, seed: int, out: Path, data_root: Path) -> "CellRun":
        """Starts the run, or goes on with what is in its folder. Args: what to run, and where; where data sets are."""
        config = out.parent / "config-of-the-cell.toml"
        write_text(config, to_toml(cell.config.to_dict()))
        is_begun = (out / "config.toml").is_file() and (out / "record.jsonl").is_file()
        words = ["--resume" if is_begun else "--out", str(out), "--config", str(config), f"seed={seed}", "--quiet"]
        command = launch_command([*words, "--data-root", str(data_root)])
        errors = out.parent / f"stderr-of-seed-{seed}"
        return cls(Child(command, errors), out, errors)

    def poll(self) -> dict[str, Any] | None:
        """``result`` or ``error``; None while it goes on."""
        status = self.child.poll()
        if status is None:
            return None
        self.child.end()
        result = if_completed(self.out)
        if status == 0 and result is not None:
            self.errors.unlink(missing_ok=True)
            return {"result": result}
        return {"error": self.child.said() or f"exit status {status}"}

    def tell(self) -> None:
        """Tells the run to end, and does not wait."""
        self.child.tell()

    def stop(self) -> None:
        """Ends the run and its stages; what it has saved is kept."""
        self.child.end()


def check_same(cell: Cell, seed: int, out: Path) -> None:
    """Raises ConfigError where the run in ``out`` is of another config than its cell now has."""
    try:
        was = tomllib.loads((out / "config.toml").read_text(encoding="utf8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"a run of the sweep cannot be read (given: {out}, {error}). Move it away.") from None
    now: Mapping[str, Any] = {**cell.config.to_dict(), "seed": seed}
    changed = differences(was, now)
    if (threads := was.get("run", {}).get("threads")) != cell.config.run.threads:  # last bits depend on them
        changed["run.threads"] = (threads, cell.config.run.threads)
    if changed:
        listed = "; ".join(f"{key}: {then!r} there, now {given!r}" for key, (then, given) in changed.items())
        raise ConfigError(
            f"the folder has runs of another config (given: {out}; {listed}). Take the changes back, or choose another "
            "--out."
        )
