"""One of several replicas without the others: what becomes of its gradients."""

from pathlib import Path

import pytest
import torch

from pipeline.config import Config
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


def test_gradients_are_gone_once_they_are_packed_and_there_again_in_front_of_a_step():
    job = case((2, 1)).jobs[0]
    plain, packing = begun(job), begun(job)
    unpack = pack_gradients(packing, 2)
    expected = [g.clone() for g in learned(plain, 0)]
    assert learned(packing, 0) == [None] * len(expected)
    unpack()
    found = [p.grad for k in packing.blocks for p in packing.stepper.parameters(k)]
    assert [g.shape for g in found] == [g.shape for g in expected]
    for block in packing.blocks:  # the own half holds the other's part as well, the other half is what was sent
        count = len(packing.stepper.parameters(block))
        own, found, expected = found[:count], found[count:], expected
        ones, expected = expected[:count], expected[count:]
        ratio = torch.cat([(a / b).flatten() for a, b in zip(own, ones, strict=True)])
        half = ratio.numel() // 2
        assert set(ratio[:half][~ratio[:half].isnan()].tolist()) == {2.0}
        assert set(ratio[half:][~ratio[half:].isnan()].tolist()) == {1.0}


def test_a_replica_is_measured_with_the_micro_batches_that_it_is_dealt():
    found = case((2, 1))
    batches = [job.resolved.batching for job in found.jobs]
    assert [(b.batch_size, b.microbatches) for b in batches] == [(4, 2), (8, 4)]
    assert found.resolved.batching.microbatches == 4  # the run's own, by which steps are counted
    assert {job.resolved.microbatch_size for job in found.jobs} == {2}
    assert all(sum(measure_stage(job, (), waits=False).parts.values()) > 0 for job in found.jobs)


@pytest.mark.parametrize("replicas", [(2, 1), None])
def test_emulated_compute_has_no_gradients_to_pack(replicas):
    job = case(replicas, compute="sleep", compute_s=1e-4).jobs[0]
    assert measure_stage(job, (), waits=False).parts
