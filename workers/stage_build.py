"""A stage, its data and its ends of all edges, from its job."""

from functools import partial

import torch

from pipeline.data.batches import Batches, crc32_of
from pipeline.data.dataset import DataSpec
from pipeline.data.windows import feed_of
from pipeline.engine.build import build_rules, build_stage
from pipeline.engine.emulated import BlockSeconds, emulated_rules, even_seconds
from pipeline.engine.stage import Stage
from pipeline.errors import ConfigError
from pipeline.resolve import RunSpec, data_bytes, load_dataset
from workers.chaos import with_delays
from workers.job import Job
from workers.transport import Transport, open_transport

__all__ = ["load_data", "open_ends", "stage_of"]


def stage_of(job: Job) -> Stage:
    """Builds this stage's blocks and no others."""
    resolved, device = job.resolved, torch.device(job.endpoint.device)
    if resolved.config.chaos.emulates:
        rules = emulated_rules(resolved, job.blocks, _emulated_seconds(job), device)
    else:
        rules = build_rules(resolved, job.blueprints, job.blocks, device)
    return build_stage(
        resolved, rules, job.blocks, device,
        batch_size=resolved.microbatch_size, learn_after=resolved.config.run.learn_after,
        stash=resolved.batching.in_flight_at(job.stage_index, job.num_stages) > 1,
    )  # fmt: skip


def _emulated_seconds(job: Job) -> list[BlockSeconds]:
    """The time that each block of this stage is to take."""
    resolved, told = job.resolved, job.resolved.config.chaos.compute_s
    if told == "measured":
        assert job.block_s is not None, "blocks are measured where they are laid on stages"
        alone = [job.block_s[k] for k in job.blocks]
        return [even_seconds(seconds, 1, resolved.microbatch_size)[0] for seconds in alone]
    seconds = told[job.stage_index] if isinstance(told, list) else float(told)
    return even_seconds(seconds, len(job.blocks), resolved.batching.batch_size)


def load_data(job: Job, device: torch.device) -> tuple[Batches, Batches, Batches | None]:
    """Batches of the training set, of what is scored after epochs, and of the test set where that is another one; on
    the device where they fit.

    Raises:
        ConfigError: the data cannot be read, or are not those that the run began with.
    """
    batching, seed = job.resolved.batching, job.resolved.config.seed
    dataset = load_dataset(job.resolved.config, job.data_root)
    _check_same(job.resolved, dataset.spec)
    splits = dataset.load_all()
    if job.start is not None:
        job.start.check_data(crc32_of(splits.arrays))
    feed = partial(feed_of, dataset=dataset, seed=seed, device=device)
    scored = partial(feed, batch_size=batching.eval_batch_size, train=False)
    train = feed(splits.train, batch_size=batching.batch_size, train=True, classes=batching.classes)
    return train, scored(splits.scored), None if splits.validation is None else scored(splits.test)


def _check_same(resolved: RunSpec, found: DataSpec) -> None:
    """Raises ConfigError where the files give other samples than when the run was planned, maybe on another host."""
    given, expected = (
        f"{d.num_train} and {d.num_test} samples of shape {d.input_shape}, {data_bytes(d)} bytes"
        for d in (found, resolved.data)
    )
    if given != expected:
        raise ConfigError(
            f"the data set {resolved.config.dataset.name} is not what the run was planned with (given: {given}, "
            f"expected: {expected}). Start again, with the same files on every host."
        )


def open_ends(job: Job) -> Transport:
    """The stage's ends of all its edges, late where the run asks for it."""
    config = job.resolved.config
    return with_delays(open_transport(job.transport, job.endpoint), config.chaos, config.seed, job.endpoint)
