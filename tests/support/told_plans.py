"""Plans whose stages take times that are told, so that what comes can be worked out by hand."""

from pathlib import Path

from pipeline.config import Config
from pipeline.planning.stage_model import Part
from workers.edges import batch_bytes
from workers.placement import Host
from workers.planner import cases
from workers.planner.asked import planned_runs
from workers.planner.cases import Planned
from workers.planner.lone_stage import StageProfile
from workers.planner.model import Model, Setting
from workers.planner.profiles import Measured
from workers.planner.rows import row_of
from workers.planner.ways import find_way
from workers.planner.wire_costs import WireCosts

FREE = WireCosts(0.0, 0.0, 0.0, 0.0)
MS = 1e-3


class Told:
    """Every block takes 1 ms forward and 2 ms to learn for a whole batch; ``slow`` takes as many times as long."""

    def __init__(self, slow=()):
        self.slow = dict(slow)

    def of(self, job):
        share = job.resolved.microbatch_size / job.resolved.config.train.batch_size
        weight = sum(self.slow.get(k, 1.0) for k in job.blocks) * share
        shape = (job.resolved.microbatch_size, *job.resolved.specs[job.blocks.start].in_shape)
        told = ((shape, job.resolved.shapes[0].dtype),) if job.resolved.topology.value != "local" else ()
        parts = {Part.BEFORE: MS * weight, Part.AFTER: 0.0, Part.LEARN: 0.0, Part.STEP: 0.0}
        if job.resolved.topology.value == "local":
            parts[Part.AFTER] = 2 * MS * weight
        elif len(job.blocks) == 1 and job.blocks.stop == job.resolved.num_blocks:
            parts[Part.BEFORE] *= 3  # the last block learns at once
        else:
            parts[Part.LEARN] = 2 * MS * weight
        top = job.blocks.stop == job.resolved.num_blocks
        passed = 0 if top else job.resolved.microbatch_size * batch_bytes(job.resolved, job.blocks.stop)
        return Measured(StageProfile(parts, 10, 20, 30, told, passed_bytes=passed), 1.0)


def tell_costs(monkeypatch, taken):
    """Has every block take a second as it was ``taken``, without a measurement; returns how each was asked for."""
    asked = []

    def told(resolved, threads, device, *, fresh):
        asked.append({"threads": threads, "fresh": fresh})
        return [1.0] * resolved.num_blocks, taken

    monkeypatch.setattr(cases, "told_costs", told)
    return asked


def config(**sections):
    base = {
        "model": {"name": "mlp", "depth": 3, "width": 64, "norm": "none"},
        "dataset": {"name": "noise", "shape": [64], "num_train": 640, "num_test": 64},
        "rule": {"name": "pred"}, "train": {"batch_size": 64}, "run": {"threads": 1},
    }  # fmt: skip
    for name, table in sections.items():
        base[name] = {**base.get(name, {}), **table} if "name" not in table else table
    return Config.from_dict(base)


def rows(question, cores=64, profiles=None, costs=FREE, **sections):
    planned = Planned(config(**sections), Host(cores, 0), Path("/nowhere"), question)
    setting = Setting(question, cores, costs, 4)
    return [row_of(Model(case, profiles or Told(), setting)) for case in planned_runs(planned, question)]


def by_schedule(found):
    return {(row["schedule"], row["stages"]): row for row in found}


def model_of(question, way="onward", stages=4, profiles=None, costs=FREE, cores=64, **sections):
    case = Planned(config(**sections), Host(cores, 0), Path("/nowhere"), question).case(find_way(way), stages)
    return Model(case, profiles or Told(), Setting(question, cores, costs, 4))


EVEN = {"run": {"threads": 1, "partition": [1, 1, 1, 1]}}
