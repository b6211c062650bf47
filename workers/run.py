"""One run from config to ``result.json``: checks, places, starts, watches, and cleans up whatever happens."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.config import Config
from pipeline.config.toml_text import to_toml
from pipeline.errors import ConfigError, NonFiniteError
from pipeline.records.files import write_json
from pipeline.records.run_record import Recorder, result_table
from pipeline.records.run_state import RunState
from pipeline.records.view import Silent, View
from pipeline.records.weights import write_manifest
from pipeline.resolve import RunSpec, resolve
from workers.coordinator import Coordinator
from workers.dry_run.dry_run import predict_run, validate
from workers.host.environment import run_header
from workers.host.fork_server import warm_up
from workers.host.signals import signals_held
from workers.job import Job, share_out
from workers.launchers.inline import run_inline
from workers.launchers.processes import StageProcesses
from workers.measure_run import measure_run
from workers.placement import Placement, needs_processes, place, this_host
from workers.trace_file import merge_parts
from workers.trace_origin import TraceStart
from workers.view import ViewMaker

__all__ = ["Session", "jobs_of", "open_session", "train"]

logger = logging.getLogger(__name__)

RESULT = "result.json"
"""The file that says how a run ended."""


@dataclass(frozen=True)
class Session:
    """Open resources of a run: its folder, record, state and view."""

    resolved: RunSpec
    placement: Placement
    out: Path
    folder: Path
    """For sockets and rendezvous files; removed at the end."""
    recorder: Recorder
    run_state: RunState
    data_root: Path
    view: View
    started: TraceStart

    def finish(self) -> dict[str, Any]:
        """Declares the weights complete and writes ``result.json``; returns the table.

        What may fail or be interrupted comes before, or fails alone: once the weights are declared complete, nothing
        changes the status of the run.
        """
        config = self.resolved.config
        results = self.run_state.stage_results()
        about = {
            "mode": config.schedule.mode, "rule": config.rule.name, "model": config.model.name,
            "dataset": config.dataset.name, "transport": self.placement.transport,
            "device": self.placement.devices[0].partition(":")[0], "threads_per_stage": self.placement.threads,
            "seed": config.seed,
            "predicted": self.placement.predicted.to_dict() if self.placement.predicted is not None else None,
        }  # fmt: skip
        table = result_table(about, results, self.run_state.history, self.run_state.last_scores,
                             self.resolved.data.num_train, self.run_state.wall_s, self.run_state.skipped)  # fmt: skip
        merge_parts(self.out)
        validate(self.resolved, self.placement, table["train_samples_per_s"])
        manifest = {k: table[k] for k in ("steps", "num_blocks", "weights_sha256")}
        with signals_held():
            self.recorder.write({"event": "result", **table})
            write_manifest(Path(results[0]["folder"]), manifest)
            write_json(self.out / RESULT, table)
        try:
            self.view.finished(table)
        except Exception as error:  # a terminal that is gone, or that cannot print a path
            logger.warning("the run is complete and cannot be shown: %s", error)
        return table


def train(
    config: Config,
    *,
    out: Path,
    data_root: Path,
    model: nn.Module | Sequence[nn.Module] | None = None,
    make_view: ViewMaker | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains on this host, in processes of its own; returns what it wrote to ``result.json``.

    Args:
        config: the run.
        out: the run's folder; must not hold a run yet.
        data_root: where data sets are.
        model: an ``nn.Sequential`` or a list of modules, one per block, in place of ``config.model``.
        make_view: shows the run; nothing is shown without.
        command: for the record.

    Raises:
        ConfigError: something is wrong with the config.
        WorkerFailed: a stage raised or died.
        NonFiniteError: a loss, weight or buffer is nan or infinite.
    """
    check_out(out)
    if needs_processes(config.transport.name):
        warm_up(config.dataset.name)
    resolved = resolve(config, data_root, model)
    host = this_host()
    placement = predict_run(resolved, place(resolved, host), host, data_root)
    with open_session(resolved, placement, out, data_root, make_view, command) as session:
        jobs = jobs_of(session)
        if placement.in_one_process:
            run_inline(jobs, session.run_state)
        else:
            _run_processes(jobs, session)
        table = session.finish()
    measure_run(resolved, placement, session.run_state, out, data_root)
    return table


def _run_processes(jobs: Sequence[Job], session: Session) -> None:
    """Stages as processes of this host."""
    processes = StageProcesses(jobs)
    try:
        timeout_s = session.resolved.config.run.timeout_s
        Coordinator(session.run_state, processes.links, processes.sentinels, timeout_s, processes.how_ended).run()
        processes.join(10.0)
    finally:
        processes.stop()


def check_out(out: Path) -> None:
    """Refuses a folder that holds anything: a run is never overwritten.

    Raises:
        ConfigError: it does, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"the output folder is taken (given: {out}, expected: a new or empty folder). Choose another --out."
        )


@contextmanager
def open_session(
    resolved: RunSpec,
    placement: Placement,
    out: Path,
    data_root: Path,
    make_view: ViewMaker | None,
    command: Sequence[str],
) -> Iterator[Session]:
    """Opens the run's folder and record; on the way out closes them, and notes how a run failed.

    Raises:
        ConfigError: the folder cannot be made.
    """
    check_out(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Every default in it, so that the run can be repeated after defaults have changed.
        table = resolved.config.to_dict()
        (out / "config.toml").write_text(to_toml(table), encoding="utf8")
        recorder = Recorder(out / "record.jsonl")
    except OSError as error:
        raise ConfigError(
            f"cannot write to the output folder (given: {out}, {error.strerror}). Choose another --out."
        ) from None
    # Paths of Unix sockets are short by law, so this is not inside ``out``.
    folder = Path(tempfile.mkdtemp(prefix="onward-"))
    view: View = Silent()
    try:
        predicted = placement.predicted.to_dict() if placement.predicted is not None else None
        recorder.write(run_header(command, table, placement.threads, placement.num_stages, predicted))
        if make_view is not None:
            view = make_view(resolved, placement, out)
        run_state = RunState(resolved.schedule(), placement.num_stages, resolved.num_blocks, recorder, view)
        yield Session(resolved, placement, out, folder, recorder, run_state, data_root, view, TraceStart.now())
    except BaseException as error:
        note_failure(out, recorder, error)
        raise
    finally:
        view.close()
        recorder.close()
        shutil.rmtree(folder, ignore_errors=True)


def note_failure(out: Path, recorder: Recorder, error: BaseException) -> None:
    """Notes a failure in the record and in ``result.json``, and merges what the stages left of a trace.

    A run that has its result keeps it: what comes after that is no part of the run.
    """
    if (out / RESULT).exists():
        return
    status = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
    failure = {"status": status, "error": str(error), **(error.row if isinstance(error, NonFiniteError) else {})}
    recorder.write({"event": "failure", **failure})
    write_json(out / RESULT, failure)
    merge_parts(out)


def jobs_of(session: Session) -> list[Job]:
    """Every stage's share of a run."""
    jobs = share_out(session.resolved, session.placement, session.folder, session.data_root, session.out)
    return [replace(job, trace=session.started) for job in jobs] if session.resolved.config.run.trace else jobs
