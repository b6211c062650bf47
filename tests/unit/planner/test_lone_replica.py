"""One of several replicas without the others: what becomes of its gradients."""

from pathlib import Path

import pytest
import torch

from pipeline.config import Config
from pipeline.engine.emulated import Waiter
from pipeline.schedules.plan import BlockMode, Plan
from workers.placement import Host
from workers.planner.cases import Planned
from workers.planner.links import Question
from workers.planner.lone_replica import pack_gradients
from workers.planner.lone_stage import measure_stage
from workers.planner.ways import find_way
from workers.stage_build import stage_of


def case(replicas, microbatches=4, **chaos):
    config = Config.from_dict({
        "model": {"name": "mlp", "depth": 3, "width": 8, "norm": "none"},
        "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8},
        "rule": {"name": "pred"}, "train": {"batch_size": 8, "microbatches": microbatches},
        "run": {"threads": 1, "partition": [2, 2]}, "chaos": chaos,
    })  # fmt: skip
    return Planned(config, Host(1, 0), Path("/nowhere"), Question((2,))).case(find_way("onward"), 2, replicas)


def learned(stage, microbatch):
    """A micro-batch through the first stage, and the gradients that its blocks then have, by parameter."""
    torch.manual_seed(microbatch)
    x = torch.randn(2, 8)
    for group in stage.groups:
        x = stage.forward(microbatch, x, torch.tensor([0, 1]), 0.5, group)
        stage.learn_at_once(microbatch)
    return [p.grad for k in stage.blocks for p in stage.stepper.parameters(k)]


def begun(job):
    stage = stage_of(job)
    stage.begin(Plan(0, (BlockMode.TRAIN,) * 4, (0,) * 4))
    return stage


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("microbatches", [1, 2])
def test_gradients_are_gone_once_they_are_packed_and_there_again_in_front_of_a_step(replicas, microbatches):
    job = case((2, 1)).jobs[0]
    plain, packing = begun(job), begun(job)
    unpack = pack_gradients(packing, replicas)
    for microbatch in range(microbatches):
        right = learned(plain, microbatch)
        assert learned(packing, microbatch) == [None] * len(right)
    unpack()
    found = [p.grad for k in packing.blocks for p in packing.stepper.parameters(k)]
    assert [g.shape for g in found] == [g.shape for g in right]
    for k in packing.blocks:  # the own part is summed, and nobody has brought anything to it or sent other parts
        count = len(packing.stepper.parameters(k))
        vector, expected = (torch.cat([g.flatten() for g in some[:count]]) for some in (found, right))
        own = vector.numel() // replicas
        assert torch.equal(vector[:own], expected[:own]) and expected[own:].any() and not vector[own:].any()
        found, right = found[count:], right[count:]


def test_a_replica_is_measured_with_the_micro_batches_that_it_is_dealt():
    found = case((2, 1))
    batches = [job.resolved.batching for job in found.jobs]
    assert [(b.batch_size, b.microbatches) for b in batches] == [(4, 2), (8, 4)]
    assert found.resolved.batching.microbatches == 4  # the run's own, by which steps are counted
    assert {job.resolved.microbatch_size for job in found.jobs} == {2}
    assert all(sum(measure_stage(job, (), waits=False).parts.values()) > 0 for job in found.jobs)


@pytest.mark.parametrize("replicas", [(2, 1), None])
def test_emulated_compute_takes_its_part_of_the_batch(replicas, monkeypatch):
    waits = []
    monkeypatch.setattr(Waiter, "wait", lambda self, seconds: waits.append(seconds))
    measure_stage(case(replicas, compute="sleep", compute_s=4e-3).jobs[0], (), waits=False)
    microbatches = len(waits) / 4  # forward and learning of two blocks
    assert sum(waits) / microbatches == pytest.approx(1e-3)  # a quarter of the batch's 4 ms


@pytest.mark.parametrize(("told", "first", "last"), [(0.4, 0.2, 0.4), ([0.4, 0.6], 0.2, 0.6), ("measured",) * 3])
def test_emulated_compute_is_that_of_what_is_dealt(told, first, last):
    config = Config.from_dict({"model": {"name": "mlp", "depth": 3, "width": 8, "norm": "none"},
                               "dataset": {"name": "noise", "shape": [8], "num_train": 64, "num_test": 8},
                               "train": {"batch_size": 8, "microbatches": 4}, "rule": {"name": "pred"},
                               "run": {"threads": 1, "partition": [2, 2]},
                               "chaos": {"compute": "sleep", "compute_s": told}})  # fmt: skip
    jobs = Planned(config, Host(1, 0), Path("/nowhere"), Question((2,))).case(find_way("onward"), 2, (2, 1)).jobs
    found = [job.resolved.config.chaos.compute_s for job in jobs]
    assert [f if isinstance(f, str | float) else f[s] for s, f in enumerate(found)] == [first, last]
