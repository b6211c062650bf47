"""``--plan``: what a run would do on so many stages, by each way of training, without the run."""

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.config.blocks import names_of
from pipeline.config.toml_text import to_toml
from pipeline.errors import ConfigError
from pipeline.planning.taken import Taken
from pipeline.records.files import write_json, write_text
from pipeline.schedules.modes import find_mode
from workers.placement import Host, this_host
from workers.planner.asked import planned_runs
from workers.planner.cases import Planned
from workers.planner.links import Question
from workers.planner.model import Model, Setting
from workers.planner.picture import draw_plan
from workers.planner.profiles import Profiles
from workers.planner.rehearsal import Rehearsals
from workers.planner.replicas import cases_with_replicas
from workers.planner.rows import row_of
from workers.planner.text import plan_lines, rate_text
from workers.planner.ways import WAYS, find_way

__all__ = ["make_plan", "plan_rows"]


def make_plan(
    config: Config, question: Question, *, out: Path, data_root: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Plans, and writes ``plan.json``, ``plan.toml`` and ``plan.svg`` into ``out``; returns the plan.

    Args:
        config: of the run.
        question: what is to be planned.
        out: a folder, made where it is not there.
        data_root: where data sets are.
        say: shows a line.

    Raises:
        ConfigError: something is wrong with the config, or cannot be planned.
    """
    host = this_host()
    with _unsaid():
        rows, taken = _measured_rows(config, question, host, data_root)
    devices = _devices(config, question, host)
    best = _best(config, rows, devices)
    plan = {"rows": rows, "best": best, **_asked(question, host), "measured": None if taken is None else taken.told()}
    about = [_about(config, question, host), "" if taken is None else taken.words(taken.age_s())]
    ending = [*planned_as(config), *_about_devices(rows, devices)]
    for line in [*plan_lines(rows, best, ", ".join(filter(None, about))), *ending]:
        say(line)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "plan.json", plan)
        write_text(out / "plan.toml", to_toml(placed(config, best)))
        draw_plan(rows, out / "plan.svg")
    except OSError as error:
        why = error.strerror
        raise ConfigError(f"cannot write the plan (given: --out {out}, {why}). Name another folder.") from None
    say(f"written: {out}/plan.json, {out}/plan.toml (python launch.py --config {out}/plan.toml)")
    return plan


def _best(config: Config, rows: Sequence[dict[str, Any]], devices: float = math.inf) -> dict[str, Any]:
    """The fastest row of the config's mode, of those that have a device for each process if there are any; of a mode
    that has no rows, of Onward's own schedule."""
    ours = [row for row in rows if find_way(row["schedule"]).is_ours]
    mode = find_mode(config.schedule.mode)
    names = [way.name for way in WAYS if find_mode(way.mode) is mode and not way.is_dealt]
    own = [row for row in rows if row["schedule"] in names]
    return max(own or ours, key=lambda row: (sum(row["replicas"]) <= devices, float(row["samples_per_s"])))


def _devices(config: Config, question: Question, host: Host) -> float:
    """GPUs of so many hosts like this one, of which every process is planned with one; endless for those on CPUs, which
    share cores."""
    return math.inf if config.run.device == "cpu" or host.num_gpus == 0 else host.num_gpus * question.hosts


def _about_devices(rows: Sequence[dict[str, Any]], devices: float) -> list[str]:
    """The line about rows for which there are too few GPUs; none where there are enough."""
    if all(sum(row["replicas"]) <= devices for row in rows):
        return []
    return [f"  planned with a GPU for each process, of which there are {devices:g}: a run of more shares them, and is "
            "slower than its row"]  # fmt: skip


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keeps back what is said of runs that are not run."""
    loggers = [logging.getLogger(name) for name in ("pipeline.checks", "pipeline.measurable")]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)


def plan_rows(
    config: Config, question: Question, host: Host, data_root: Path, *, fresh: bool = False,
    ways: Collection[str] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of a plan.

    Args:
        config: of the run.
        question: what is to be planned.
        host: this machine.
        data_root: where data sets are.
        fresh: measure again what is in the cache.
        ways: names of the ways that are planned; empty for all.
    """
    return _measured_rows(config, question, host, data_root, fresh=fresh, ways=ways)[0]


def _measured_rows(
    config: Config, question: Question, host: Host, data_root: Path, *, fresh: bool = False,
    ways: Collection[str] = (),
) -> tuple[list[dict[str, Any]], Taken | None]:  # fmt: skip
    """The rows of a plan; and how old and how disturbed what they are made from is. See :func:`plan_rows`."""
    planned = Planned(config, host, data_root, question, fresh=fresh)
    cases = planned_runs(planned, question, ways)
    on_cpu = planned.device == "cpu"
    profiles = Profiles(max(question.stages) if on_cpu else 1, host.cores, fresh=fresh)
    profiles.learn([case.jobs for case in cases])
    costs = profiles.wires(cases[0].resolved, planned.transport)
    between = planned.far_transport if on_cpu and question.hosts > 1 else None
    far = profiles.wires(cases[0].resolved, between) if between is not None else None
    setting = Setting(question, host.cores if on_cpu else math.inf, costs, config.transport.depth, far)
    split = cases_with_replicas(cases, planned, profiles, setting)
    profiles.learn([case.jobs for case in split])
    rehearsals = Rehearsals(question, setting.cores, data_root, fresh=fresh)
    models = [Model(case, profiles, setting) for case in [*cases, *split]]
    rows = [row_of(model, rehearsals.step_s(model.case, model.step_s)) for model in models]
    every = [*planned.taken, *([] if profiles.taken is None else [profiles.taken]), *rehearsals.taken]
    return rows, Taken.together(every)


def placed(config: Config, row: dict[str, Any]) -> dict[str, Any]:
    """The config of a row, so that it can be run, as nested tables: stages, partition, replicas with the micro-batches
    that are dealt to them, and the depth that it needs. A mode that is planned as another one stays, but with replicas,
    which it may refuse."""
    depth = max(config.transport.depth, row["least_depth"] or 1)
    run = dataclasses.replace(config.run, stages=row["stages"], replicas=1)
    if row["stages"] > 1 or isinstance(run.partition, list):  # a list of other stages
        run = dataclasses.replace(run, partition=row["partition"])
    keeps = bool(planned_as(config)) and find_way(row["schedule"]).is_ours and max(row["replicas"]) == 1
    table = dataclasses.replace(
        config, run=run, transport=dataclasses.replace(config.transport, depth=depth),
        schedule=config.schedule if keeps else dataclasses.replace(config.schedule, mode=row["mode"]),
    ).to_dict()  # fmt: skip
    if max(row["replicas"]) > 1:
        table["run"]["replicas"], table["train"]["microbatches"] = row["replicas"], row["microbatches"]
    return table


def planned_as(config: Config) -> list[str]:
    """The line about a mode that is planned as the mode parallel; none of other modes."""
    gate, mode = config.gate, find_mode(config.schedule.mode)
    beside = "blocks learn one after another, and batches stop below those that have not begun"
    if mode.is_gated and gate.measures:
        beside = (
            f"a probe of {gate.probe_samples} samples passes every {gate.probe_every} steps, for which the queues "
            "have room here, and parts of steps take passes over the weights"
        )
    elif mode.is_predictable and any(find_mode(way.mode) is mode for way in WAYS):
        return []
    elif mode.is_predictable:
        beside = "which keeps other numbers of batches in flight"
        return [f"  planned as the mode parallel: a plan has no rows of {mode.name}, {beside}"]
    return [f"  planned as the mode parallel, in which every block trains in every step; under {mode.name} {beside}"]


def _asked(question: Question, host: Host) -> dict[str, Any]:
    """The question, for JSON."""
    link = question.link
    return {
        "hosts": question.hosts, "device_speed": question.device_speed, "cores_per_host": host.cores,
        "link": None if link is None else {"bit_per_s": link.bits_per_s, "latency_s": link.latency_s},
    }  # fmt: skip


def _about(config: Config, question: Question, host: Host) -> str:
    """The first line."""
    link = question.link
    what = f"{names_of(config.rule)} on {config.dataset.name}, {config.model.name}"
    parts = [f"plan: {what}, batch {config.train.batch_size}"]
    parts += ["EMULATED COMPUTE"] if config.chaos.emulates else []
    hosts = f"{question.hosts} host{'s' if question.hosts > 1 else ''}"
    parts.append(f"{hosts} of {host.cores} cores and {host.num_gpus} GPUs")
    if link is not None:
        parts.append(f"link {rate_text(link.bits_per_s)}, {link.latency_s * 1e6:.4g} us")
    if question.device_speed != 1.0:
        parts.append(f"devices {question.device_speed:g} times as fast as this one")
    return ", ".join(parts)
