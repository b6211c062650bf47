"""Taking up a run that was cut short: what it was, from where it goes on, and what must be as it was.

A resumed run gives the weights that it would have given undisturbed, on any number of stages, over any transport.
Some things are part of the result and are fixed: they are kept by themselves where the config leaves them open
(``run.threads = 0``, ``run.device = "auto"``), and refused, with the difference, where it does not.
"""

import logging
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.config.blocks import of_block
from pipeline.errors import ConfigError
from pipeline.optim.optimizers import state_options
from pipeline.records.history import replayed_rows
from pipeline.records.result_file import RESULT, if_completed
from pipeline.records.run_record import read_record
from pipeline.records.snapshots import Manifest, newest_snapshot, retire_incomplete, set_aside_newer
from pipeline.records.standing import Standing
from pipeline.records.weights import measured_folder
from pipeline.resolve import RunSpec
from pipeline.schedules.cuts import Cut
from pipeline.schedules.gate_checks import gate_state_of
from workers.host.out_folder import claimed
from workers.job import StartPoint
from workers.placement import Placement
from workers.result_keys import BEFORE, BEGUN, INITIAL, differences, fixed_by

__all__ = ["Origin", "open_origin"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """The run that is taken up."""

    run: Path
    table: Mapping[str, Any]
    """Its config."""
    fixed: Mapping[str, Any]
    """See :func:`fixed_by`."""
    found: tuple[Path, Manifest] | None
    """Its newest snapshot; without one it begins anew, and ends the same."""
    seen: Standing
    """How far it was when it was looked at, which another command may have changed since."""
    allow_changes: bool = False
    restarts: int = 0
    """Times that torchrun has started the run again."""

    def fixed_in(self, config: Config) -> Config:
        """``config`` with what it leaves open as it was."""
        run = config.run
        if run.threads == 0 and "run.threads" in self.fixed:
            run = replace(run, threads=self.fixed["run.threads"])
        if run.device == "auto" and "run.device" in self.fixed:
            run = replace(run, device=self.fixed["run.device"])
        if "run.partition" in self.fixed and not isinstance(run.partition, list):
            run = replace(run, partition=self.fixed["run.partition"])
        return replace(config, run=run)

    def handed_on(self, resolved: RunSpec, placement: Placement) -> dict[str, Any]:
        """What is fixed of a run that goes on with this one. From a snapshot it has the blocks that this one began
        with, though nobody looks for the run any more that they came from."""
        now = fixed_by(resolved, placement)
        if self.found is None:
            return now
        was = {key: value for key, value in self.fixed.items() if key in BEGUN}
        return {key: value for key, value in now.items() if key not in BEGUN} | was

    def check(self, resolved: RunSpec, placement: Placement) -> None:
        """Compares a run with this one.

        Raises:
            ConfigError: it would have another result, and that was not asked for; or there is nothing left to do.
        """
        now = fixed_by(resolved, placement)
        if self.fixed.get("torch") != now["torch"]:
            logger.warning(
                "the run began under torch %s and goes on under %s: its last bits may differ",
                self.fixed.get("torch"), now["torch"],
            )  # fmt: skip
        fixed = {**BEFORE, **self.fixed}
        changed = {
            **{k: v for k, v in differences(self.table, resolved.config.to_dict()).items() if k not in self.fixed},
            **{k: (v, now[k]) for k, v in fixed.items() if k in now and k not in ("torch", INITIAL) and v != now[k]},
        }  # fmt: skip
        self._check_fits(resolved)
        if changed and not self.allow_changes:
            listed = "; ".join(f"{key}: {was!r} in the run, now {given!r}" for key, (was, given) in changed.items())
            raise ConfigError(
                f"the run would not be the same ({listed}). Take the changes back, or pass --allow-changes to go on "
                "with them."
            )
        if self.found is not None:
            self._check_is_left(resolved, self.found[1])
        elif self.is_complete:
            raise ConfigError(
                f"the run is complete and its snapshots are not there (given: {self.run}). Its weights may lie where "
                "result.json says as folder; start a new run with another --out."
            )

    def _check_fits(self, resolved: RunSpec) -> None:
        """Raises ConfigError where no change can be allowed: the state of the snapshot would not fit."""
        was, now = self.table.get("optimizer", {}).get("name"), resolved.config.optimizer.name
        if self.found is None:
            return
        manifest, batching = self.found[1], resolved.batching
        wrong = [f"optimizer.name: {was!r} in the run, now {now!r}"] if was != now else []
        wrong += self._other_optimizers(resolved, len(manifest.files)) if not wrong else []
        if (gate := gate_state_of(self.table)) != (other := gate_state_of(resolved.config.to_dict())):
            wrong.append(f"what the gate keeps: {gate} in the run, now {other}")
        if len(manifest.files) != resolved.num_blocks:
            wrong.append(f"blocks: {len(manifest.files)} in the run, now {resolved.num_blocks}")
        if (steps := self.fixed.get("steps_per_epoch", batching.num_steps)) != batching.num_steps:
            wrong.append(f"steps of an epoch: {steps} in the run, now {batching.num_steps}")
        if wrong:
            raise ConfigError(
                f"the snapshot cannot be taken up ({'; '.join(wrong)}). Take the changes back, or start a new run."
            )

    def _other_optimizers(self, resolved: RunSpec, num_blocks: int) -> list[str]:
        """Blocks whose sections name another optimizer, or options that need more of its state than there is."""
        before = Config.from_dict({"optimizer": self.table["optimizer"]}).optimizer
        was, now = (
            [of_block(section, k, count, "optimizer") for k in range(count)]
            for section, count in ((before, num_blocks), (resolved.config.optimizer, resolved.num_blocks))
        )
        found: dict[str, list[str]] = {}
        for block, (a, b) in enumerate(zip(was, now, strict=False)):
            new = set(state_options(b.name, b.options)) - set(state_options(a.name, a.options))
            if a.name != b.name or new:
                options = f" with {' and '.join(sorted(new))}" if a.name == b.name else ""
                found.setdefault(f"{a.name!r} in the run, now {b.name!r}{options}", []).append(str(block))
        return [f"optimizer of block{'s' * (len(k) > 1)} {', '.join(k)}: {text}" for text, k in found.items()]

    def _check_is_left(self, resolved: RunSpec, manifest: Manifest) -> None:
        """Raises ConfigError where the epochs that are done are all that the config asks for."""
        schedule = resolved.schedule()
        try:
            history = replayed_rows(schedule, manifest.epochs, resolved.num_blocks, manifest.cache_lost)
        except ValueError as error:
            raise ConfigError(
                f"with these changes the blocks would have taken turns otherwise ({error}). Take the changes of "
                "train.epochs, schedule.patience and schedule.tolerance back, or start a new run."
            ) from None
        done = len(manifest.epochs)
        following = schedule.plan(done, history) if len(history) == done else None
        is_over = following is None or following.scores_test
        if len(history) < done or (self.is_complete and is_over):
            raise ConfigError(
                f"there is nothing left to train (given: {self.run}, epochs done: {done}, asked for: "
                f"train.epochs={resolved.config.train.epochs}). To train longer, raise train.epochs and pass "
                "--allow-changes."
            )

    @property
    def cut(self) -> Cut:
        """Where it goes on."""
        return self.found[1].cut if self.found is not None else Cut()

    @property
    def is_complete(self) -> bool:
        """It has its result; one that was killed just before is finished by a resume."""
        return if_completed(self.run) is not None

    def is_in(self, out: Path) -> bool:
        """Whether the run goes on in its own folder."""
        return out.resolve() == self.run.resolve()

    def move_to(self, out: Path) -> StartPoint | None:
        """Makes ``out``, which may be the run's own folder, ready to go on in; returns from where.

        A result that is there stays, under the name of its step. Raises OSError where the disk refuses, and ConfigError
        where the run is still going on, or has gone on since it was looked at.
        """
        if self.is_in(out):  # and claimed
            self._check_stood_still()
            self._set_aside_result()
            set_aside_newer(self.run, self.found[0] if self.found is not None else None)
            retire_incomplete(self.run)
            return StartPoint(*self.found) if self.found is not None else None
        with claimed(self.run, is_new=False):
            self._check_stood_still()
            return self._copy_to(out)

    def _check_stood_still(self) -> None:
        """Raises ConfigError where another command has gone on with the run: nothing of it must be made void."""
        if (now := Standing.of(self.run)) != self.seen:
            raise ConfigError(
                f"the run has gone on since this command has looked at it (given: {self.run}, then {self.seen}, now "
                f"{now}). Nothing of it was changed; resume it again."
            )

    def _copy_to(self, out: Path) -> StartPoint | None:
        """Copies what the run goes on from into another folder."""
        if (rows := self.run / "measurements.json").exists():  # its weights may be gone
            shutil.copy(rows, out)
        for epoch in range(1, self.cut.epoch + 1):
            if (folder := measured_folder(self.run, epoch)).exists():
                shutil.copytree(folder, measured_folder(out, epoch))
        if self.found is None:
            return None
        folder, manifest = self.found
        shutil.copytree(folder, out / "snapshots" / folder.name)  # so that the new run can be resumed, too
        return StartPoint(out / "snapshots" / folder.name, manifest)

    def _set_aside_result(self) -> None:
        """Only a complete result is kept: how a run failed stands in its record."""
        result, table = self.run / RESULT, if_completed(self.run)
        if table is None:
            result.unlink(missing_ok=True)
            return
        steps, number = table.get("steps"), 1
        target = self.run / f"result-step-{steps}.json"
        while target.exists():
            number += 1
            target = self.run / f"result-step-{steps}-{number}.json"
        result.rename(target)

    def row(self, out: Path) -> dict[str, Any]:
        """For the record: in the run's own folder, rows behind ``record_bytes`` are void."""
        manifest = self.found[1] if self.found is not None else None
        cut = self.cut._asdict()
        if not self.is_in(out):
            return {"resumed_from": {"run": str(self.run), **cut}}
        return {"event": "resume", **cut, "record_bytes": manifest.record_bytes if manifest else 0}


def open_origin(run: Path, *, allow_changes: bool = False, restarts: int = 0) -> Origin:
    """The run in a folder, to be passed to :func:`workers.run.train` as ``origin``.

    Args:
        run: its folder.
        allow_changes: go on with another config.
        restarts: times that torchrun has started the run again. What raised is not tried again.

    Raises:
        ConfigError: there is no run, or it would fail again.
    """
    try:
        table = tomllib.loads((run / "config.toml").read_text(encoding="utf8"))
        rows = read_record(run / "record.jsonl")
    except (OSError, ValueError):  # not TOML, not text
        raise ConfigError(
            f"there is no run to resume (given: {run}, expected: a folder that --out named, with config.toml and "
            "record.jsonl in it). Name another one."
        ) from None
    header = next((row for row in rows if "fixed" in row), {})
    if restarts > 0 and rows and rows[-1]["event"] == "failure" and not rows[-1].get("lost", True):
        raise ConfigError(f"the run has raised and would raise again: {rows[-1]['error']}")
    if any(run.glob("snapshots/step-*/block-*.pt")):
        raise ConfigError(
            f"the run was written by an earlier version, and cannot be gone on with (given: {run}). Repeat it with "
            f"--config {run / 'config.toml'}."
        )
    seen = Standing.of(run)  # first: what comes in between is told from it
    found = newest_snapshot(run)
    fixed = (found[1].fixed if found is not None else None) or header.get("fixed", {})
    return Origin(run, table, fixed, found, seen, allow_changes, restarts)
