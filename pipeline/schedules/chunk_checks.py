"""What is refused of runs on sequences in chunks: whatever would tear their chunks apart."""

from pipeline.config import Config
from pipeline.data.dataset import DataSpec
from pipeline.errors import ConfigError
from pipeline.schedules.batching import Batching
from pipeline.schedules.dealing import wants_replicas
from pipeline.schedules.modes import Mode, Rules

__all__ = ["check_chunks"]


def check_chunks(config: Config, mode: Mode, data: DataSpec, batching: Batching) -> None:
    """Refuses what a state that is carried from batch to batch does not go with.

    Raises:
        ConfigError: blocks that are frozen, replicas, test samples that go through several times, or batches that do
            not divide the sequences.
    """
    chunking, name = data.chunking, config.dataset.name
    if chunking is None:
        return
    if mode.rules is Rules.LOCAL or mode.is_gated:
        why = "has a probe or frozen blocks" if mode.is_gated else "freezes blocks"
        raise ConfigError(
            f"the mode {mode.name} {why}, which keep no state from chunk to chunk (given: chunks of {name}, expected: "
            "another mode, or whole sequences). Change schedule.mode, or leave dataset.chunk or dataset.in_order out."
        )
    if config.train.freeze != "":
        raise ConfigError(
            f"frozen blocks keep no state from chunk to chunk (given: train.freeze = {config.train.freeze!r} with "
            f"chunks of {name}, expected: none). Leave it out, or leave dataset.chunk or dataset.in_order out."
        )
    if wants_replicas(config):
        raise ConfigError(
            f"each replica would carry the state of its own micro-batches (given: run.replicas = "
            f"{config.run.replicas!r} with chunks of {name}, expected: 1). Leave it out."
        )
    if batching.eval_passes > 1:
        raise ConfigError(
            f"a state is carried along one pass (given: train.eval_passes = {batching.eval_passes} with chunks of "
            f"{name}, expected: 1). Leave it out."
        )
    sizes = ("batch_size", batching.batch_size, data.num_train), ("eval_batch_size", batching.eval_batch_size,
                                                                   data.num_test)  # fmt: skip
    for key, size, num_samples in sizes:
        count = chunking.num_sequences(num_samples)
        if chunking.num_chunks and (size > count or count % size):
            divisors = [d for d in range(1, count + 1) if count % d == 0]
            near = min(divisors, key=lambda d: abs(d - size))
            raise ConfigError(
                f"batches do not divide the sequences (given: train.{key} = {size} for {count} of {name}, expected: a "
                f"divisor of {count}). Set train.{key} to {near}."
            )
