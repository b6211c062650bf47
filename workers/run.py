"""One run from config to ``result.json``: checks, places, starts, watches, and cleans up whatever happens."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.config import Config
from pipeline.config.toml_text import to_toml
from pipeline.errors import WorkerFailed
from pipeline.mixture.rules import rule_names
from pipeline.records.bad_scores import BadScores
from pipeline.records.files import write_text
from pipeline.records.network_facts import write_facts
from pipeline.records.result_file import RESULT
from pipeline.records.run_record import Recorder, odd_twins, result_table
from pipeline.records.run_state import RunState
from pipeline.records.snapshot_keeper import SnapshotKeeper
from pipeline.records.snapshots import Manifest, newest_snapshot, retire_incomplete, set_aside_newer
from pipeline.records.view import Silent, View
from pipeline.resolve import RunSpec
from pipeline.schedules.cuts import Cut
from pipeline.schedules.gate_checks import unstarted
from workers.coordinator import Coordinator
from workers.dry_run.dry_run import validate
from workers.host.environment import run_header
from workers.host.folders import new_folder, remove_orphans
from workers.host.fork_server import warm_up
from workers.host.out_folder import claimed, unusable
from workers.host.signals import signals_held
from workers.job import Job, StartPoint, share_out
from workers.launchers.inline import run_inline
from workers.launchers.processes import StageProcesses
from workers.measure_run import measure_run
from workers.next_move import add_next_move
from workers.placement import Placement, needs_processes, this_host
from workers.rescue import declare_complete, note_result, spare_folder
from workers.result_keys import INITIAL, fixed_by
from workers.resume import Origin
from workers.run_plan import RunPlan, facts_of, plan_run
from workers.trace_file import merge_parts
from workers.trace_origin import TraceStart
from workers.view import ViewMaker

__all__ = ["Session", "jobs_of", "open_session", "train"]

NOTHING_LEARNED = "compute was emulated by waiting: nothing was learned, and no weights are in the snapshots"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """Open resources of a run: its folder, record, state and view."""

    resolved: RunSpec
    placement: Placement
    out: Path
    folder: Path
    """Of ``sockets``; removed at the end."""
    sockets: Path
    """For sockets and rendezvous files: ``folder``, and another one in it after each restart."""
    spare: Path
    """The second place."""
    recorder: Recorder
    run_state: RunState
    data_root: Path
    view: View
    started: TraceStart
    keeper: SnapshotKeeper
    start: StartPoint | None = None
    """Where the run goes on; None at its beginning."""

    def finish(self) -> dict[str, Any]:
        """Declares the weights complete and writes ``result.json``; returns the table.

        What may fail or be interrupted comes before, or fails alone: once the weights are declared complete, nothing
        changes the status of the run.
        """
        config, results = self.resolved.config, self.run_state.stage_results()
        about = {
            "mode": config.schedule.mode, "rule": rule_names(config, self.resolved.num_blocks),
            "model": config.model.name, "dataset": config.dataset.name,
            "transport": self.placement.transport, "wire": config.transport.wire,
            "device": self.placement.devices[0].partition(":")[0], "threads_per_stage": self.placement.threads,
            "seed": config.seed, "replicas": list(self.placement.replicas.counts),
            "predicted": self.placement.predicted.to_dict() if self.placement.predicted is not None else None,
            **({INITIAL: run} if (run := self.keeper.fixed.get(INITIAL)) is not None else {}),
            "selection": self.run_state.selection(self.resolved.batching.num_validation, config.train.eval_every),
            **({"emulated": True, "note": NOTHING_LEARNED} if config.chaos.emulates else {}),
            **({"stopped": end.reason} if (end := self.view.early_end) is not None and end.is_taken else {}),
        }  # fmt: skip
        state, epochs = self.run_state, len(self.run_state.history)
        table = result_table(about, results, state.history, state.last_scores, self.resolved.data.num_train,
                             state.wall_s, self.keeper.restarts, state.skipped, state.gates)  # fmt: skip
        for stage, block in odd_twins(results):
            logger.warning(
                "replicas of stage %d have ended with different weights of block %d, so they compute differently, and "
                "the result is not that of one process. Run replicas on processors of one kind.", stage, block,
            )  # fmt: skip
        if (unlearned := unstarted(config, self.resolved.mode, table["blocks"])) is not None:
            logger.warning(unlearned)
        if config.chaos.emulates:
            table["weights_sha256"] = None  # there are none
        if config.run.trace:
            merge_parts(self.out)
        validate(self.resolved, self.placement, table["train_samples_per_s"])
        manifest = Manifest(
            Cut(epochs), table["steps"], {k: crc for r in results for k, crc in r["files"]}, state.scores(epochs),
            wall_s=table["wall_s"], weights_sha256=table["weights_sha256"], cache_lost=state.cache_lost,
        )  # fmt: skip
        data = next((r["data_crc32"] for r in results if r["data_crc32"] is not None), None)
        declare = partial(self.keeper.finish, manifest, data)
        with signals_held():
            self.recorder.write({"event": "result", **table})
            table = declare_complete(self.out, self.spare, results, declare, table)
        self.keeper.tidy()
        try:
            self.view.finished(table)
        except Exception as error:  # a terminal that is gone, or that cannot print a path
            logger.warning("the run is complete and cannot be shown: %s", error)
        return table

    def restart(self, failure: WorkerFailed) -> "Session":
        """The session in which the run goes on from its newest snapshot, or anew, once its stages are gone."""
        (keeper := self.keeper).forget()
        keeper.restarts += 1
        found = newest_snapshot(self.out)
        with suppress(OSError):  # a full disk
            set_aside_newer(self.out, found[0] if found is not None else None)
            retire_incomplete(self.out)
        cut = found[1].cut if found is not None else Cut()
        logger.warning(
            "%s\nThe run goes on from epoch %d, step %d (restart %d of %d)",
            failure, cut.epoch + 1, cut.step, keeper.restarts, self.resolved.config.restart.max_restarts,
        )  # fmt: skip
        self.recorder.write({
            "event": "restart", **cut._asdict(), "error": str(failure),
            "record_bytes": found[1].record_bytes if found is not None else 0,
        })  # fmt: skip
        self.run_state.go_on_from(found[1] if found is not None else None)
        sockets = self.folder / f"{keeper.restarts}"  # those of the lost stages are still in the other one
        sockets.mkdir()
        return replace(self, sockets=sockets, start=StartPoint(*found) if found is not None else None)


def train(
    config: Config,
    *,
    out: Path,
    data_root: Path,
    model: nn.Module | Sequence[nn.Module] | None = None,
    make_view: ViewMaker | None = None,
    command: Sequence[str] = (),
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Trains on this host, in processes of its own; returns what it wrote to ``result.json``.

    Args:
        config: the run.
        out: the run's folder; must not hold a run yet, but for that of ``origin``.
        data_root: where data sets are.
        model: an ``nn.Sequential`` or a list of modules, one per block, in place of ``config.model``.
        make_view: shows the run; nothing is shown without.
        command: for the record.
        origin: an unfinished run that is taken up; see :func:`workers.resume.open_origin`.

    Raises:
        ConfigError: something is wrong with the config.
        WorkerFailed: a stage raised or died.
        NonFiniteError: a loss, weight or buffer is nan or infinite.
    """
    if needs_processes(config.transport.name):
        warm_up(config.dataset.name)
    plan = plan_run(config, this_host(), out, data_root, model, origin)
    with open_session(plan, out, data_root, make_view, command) as session:
        if plan.placement.in_one_process:
            run_inline(jobs_of(session), session.run_state)
        else:
            _run_processes(session)
        table = session.finish()
    measure_run(plan.resolved, plan.placement, session.run_state, out, data_root)
    return table


def _run_processes(session: Session) -> None:
    """Stages as processes of this host, started again from the newest snapshot where one is lost."""
    config = session.resolved.config
    while True:
        processes = StageProcesses(jobs_of(session))
        try:
            Coordinator(
                session.run_state, processes.links, processes.sentinels, config.run.timeout_s, processes.how_ended,
                processes.identities, config.run.start_timeout_s, replicas=session.placement.replicas,
            ).run()
            processes.join(10.0)
            return
        except WorkerFailed as error:
            if not error.is_lost or session.keeper.restarts >= config.restart.max_restarts:
                raise
            failure = error
        finally:
            processes.stop()
        session = session.restart(failure)


@contextmanager
def open_session(
    plan: RunPlan, out: Path, data_root: Path, make_view: ViewMaker | None, command: Sequence[str]
) -> Iterator[Session]:
    """Opens the run's folder and record; on the way out closes them, and notes how a run failed.

    Raises:
        ConfigError: the folder cannot be made, or another run has it.
    """
    is_new = plan.origin is None or not plan.origin.is_in(out)
    with claimed(out, is_new=is_new), _opened(plan, out, data_root, make_view, command) as session:
        yield session


@contextmanager
def _opened(
    plan: RunPlan, out: Path, data_root: Path, make_view: ViewMaker | None, command: Sequence[str]
) -> Iterator[Session]:
    """The session, in a folder that is this run's."""
    resolved, placement, origin = plan.resolved, plan.placement, plan.origin
    try:
        start = origin.move_to(out) if origin is not None else None
        # Every default in it, so that the run can be repeated after defaults have changed.
        table = resolved.config.to_dict()
        write_text(out / "config.toml", to_toml(table))
        write_facts(out, facts_of(resolved, plan.model))
        recorder = Recorder(out / "record.jsonl")
    except OSError as error:
        raise unusable(out, error) from None
    folder = new_folder()
    remove_orphans()
    recorder.rescue_to((spare := spare_folder(out, folder)) / "record.jsonl")
    view: View = Silent()
    try:
        predicted = placement.predicted.to_dict() if placement.predicted is not None else None
        fixed = fixed_by(resolved, placement) if origin is None else origin.handed_on(resolved, placement)
        header = run_header(command, table, placement.threads, placement.num_stages, predicted)
        recorder.write({**header, "fixed": fixed, **(origin.row(out) if origin is not None else {})})
        if make_view is not None:
            view = make_view(resolved, placement, out)
            recorder.listener = view.row
        keeper = SnapshotKeeper(
            out, placement.num_stages, resolved.num_blocks, resolved.config.snapshot.keep, fixed, recorder
        )
        run_state = RunState(
            resolved.schedule(), placement.replicas.num_processes, resolved.num_blocks, recorder, view, keeper,
            view.early_end, BadScores(stops=resolved.config.train.nonfinite == "stop"),
        )  # fmt: skip
        keeper.restarts = origin.restarts if origin is not None else 0
        if start is not None:
            keeper.restarts = max(keeper.restarts, start.manifest.restarts)
            run_state.go_on_from(start.manifest)
        yield Session(
            resolved, placement, out, folder, folder, spare, recorder, run_state, data_root, view, TraceStart.now(),
            keeper, start,
        )  # fmt: skip
    except BaseException as error:
        note_failure(out, recorder, error, traced=resolved.config.run.trace)
        raise
    finally:
        try:
            view.close()
        finally:
            recorder.close()
            shutil.rmtree(folder, ignore_errors=True)


def note_failure(out: Path, recorder: Recorder, error: BaseException, *, traced: bool) -> None:
    """Notes a failure in the record and in ``result.json``, and on ``error`` how the run is taken up; merges what the
    stages of a ``traced`` run left. A run that has its result keeps it."""
    if (out / RESULT).exists():
        return
    note_result(out, recorder, error)
    add_next_move(error, out)
    if traced:
        merge_parts(out)


def jobs_of(session: Session) -> list[Job]:
    """Every stage's share of a run."""
    resolved, placement = session.resolved, session.placement
    jobs = share_out(resolved, placement, session.sockets, session.data_root, session.out, session.spare)
    if session.start is not None:
        history = session.run_state.history
        plans = [*session.run_state.plans, session.resolved.schedule().plan(len(history), history)]
        start, batching = session.start, session.resolved.batching
        jobs = [replace(job, start=start.through(job.blocks, plans, batching, job.dealt)) for job in jobs]
    return [replace(job, trace=session.started) for job in jobs] if session.resolved.config.run.trace else jobs
