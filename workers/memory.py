"""Memory of a whole run on this host, estimated from its shapes before a stage starts; see :mod:`pipeline.memory`."""

from collections import Counter
from collections.abc import Sequence
from math import prod

import torch

from pipeline.learning.rule import Topology
from pipeline.memory import check_room
from pipeline.network.shapes import BlockShapes
from pipeline.resolve import RunSpec, data_bytes
from pipeline.schedules.replicas import Replicas
from workers.edges import edges_of
from workers.transport import Reach

__all__ = ["PROCESS_BYTES", "check_memory"]

PROCESS_BYTES = 12 * 2**20
"""Of its own that a stage's process has at least, beside what it shares with the fork server; measured: 15 MiB, the
first stage 29 MiB."""

_MOST_KEPT = 3
"""Copies of a state: of the best epoch, and of the last two."""

_ADVICE = (
    "Lower what the largest part comes from: model.width and model.depth, train.batch_size, dataset.num_train, "
    "transport.depth, gate.probe_samples, or the number of stages."
)


def check_memory(
    resolved: RunSpec, partition: Sequence[range], devices: Sequence[str], here: int | Sequence[int], reach: Reach,
    replicas: Replicas | None = None,
) -> None:  # fmt: skip
    """Refuse a run that cannot fit into the memory of this host, or of one of its GPUs.

    Args:
        resolved: the run.
        partition: blocks of each stage.
        devices: of each process.
        here: processes on this host; a number stands for the first ones.
        reach: of the transport.
        replicas: processes of each stage; None for one each.

    Raises:
        ConfigError: it cannot.
    """
    replicas = replicas or Replicas.single(len(partition))
    here = range(here) if isinstance(here, int) else here
    copies = sum(process < replicas.counts[0] for process in here)
    host: Counter[str] = Counter({"for the data set": data_bytes(resolved.data) * copies})
    host["for the stages' processes"] = PROCESS_BYTES * len(here) if reach is not Reach.PROCESS else 0
    host["for messages in flight"] = ring_bytes(
        resolved, partition, here, mapped=reach is Reach.HOST, replicas=replicas
    )
    gpus: dict[str, Counter[str]] = {}
    for process in here:
        device, (stage, _) = devices[process], replicas.place(process)
        parts = host if device == "cpu" else gpus.setdefault(device, Counter())
        parts["for weights, gradients and the optimizer"] += weight_bytes(resolved, partition[stage])
        parts["for activations"] += activation_bytes(resolved, partition, stage)
        parts["for the probe"] += probe_bytes(resolved, partition[stage])
        if replicas.counts[stage] > 1:  # sums come beside the gradients that are summed
            sums = sum(resolved.exchanged[k].gradient_bytes for k in partition[stage])
            parts["for weights, gradients and the optimizer"] += sums
    check_room(host, _ADVICE)
    for device, parts in gpus.items():
        check_room(parts, _ADVICE, torch.cuda.get_device_properties(device).total_memory, f"on {device}")


def weight_bytes(resolved: RunSpec, blocks: range) -> int:
    """Bytes of the state of ``blocks`` and, of those that train at the same time, of gradients and the optimizer, and
    of the copies that may be chosen; see :mod:`pipeline.engine.kept`."""
    kept = min(_MOST_KEPT, resolved.config.train.epochs) if resolved.batching.num_validation else 0
    extra = [
        resolved.trained_bytes[k] * (1 + resolved.optimizer_of(k).state_copies)
        + (0 if k in resolved.frozen else kept * resolved.state_bytes[k])
        for k in blocks
    ]  # fmt: skip
    at_once = max(extra) if resolved.schedule().depends_on_results else sum(extra)
    return sum(resolved.state_bytes[k] for k in blocks) + at_once


def activation_bytes(resolved: RunSpec, partition: Sequence[range], stage: int) -> int:
    """Bytes of what is held between forward and learning: of one block, or where feedback is awaited, of all blocks
    for every batch in flight."""
    batching, blocks = resolved.batching, partition[stage]
    sizes = [_sample_bytes(resolved.shapes[k]) for k in blocks]
    rows, held = resolved.microbatch_size, max(sizes)
    if resolved.topology is not Topology.LOCAL:
        rows, held = rows * batching.in_flight_at(stage, len(partition)), sum(sizes)
    evaluated = max(batching.eval_batch_size * batching.eval_passes, _probe_samples(resolved)) * max(sizes)
    return max(rows * held, evaluated) + _batch_bytes(resolved, stage)


def probe_bytes(resolved: RunSpec, blocks: range) -> int:
    """Bytes that a stage keeps from one probe to the next: the samples where block 0 is, of every other block its
    input at the last probe, and where blocks may come to rest the output of each."""
    data = resolved.data
    samples = prod(data.input_shape) * data.input_dtype.itemsize
    inputs = [_out_bytes(resolved.shapes[k - 1]) if k > 0 else samples for k in blocks]
    outputs = [_out_bytes(resolved.shapes[k]) for k in blocks] if resolved.config.gate.rest > 0.0 else []
    return _probe_samples(resolved) * (sum(inputs) + sum(outputs))


def _probe_samples(resolved: RunSpec) -> int:
    return resolved.probe.num_samples if resolved.probe is not None else 0


def _batch_bytes(resolved: RunSpec, stage: int) -> int:
    """Bytes of a batch of images with the borders that they are cropped from."""
    shape, padding = resolved.data.input_shape, resolved.config.dataset.options.get("crop_padding", 0)
    if stage > 0 or len(shape) != 3 or not isinstance(padding, int):
        return 0
    return resolved.batching.batch_size * shape[0] * (shape[1] + 2 * padding) * (shape[2] + 2 * padding)


def _sample_bytes(shapes: BlockShapes) -> int:
    """Bytes of one sample's activations in a block; the output is the body's where there is no outlet."""
    return shapes.dtype.itemsize * max(prod(shapes.body_shape), prod(shapes.out_shape))


def _out_bytes(shapes: BlockShapes) -> int:
    """Bytes of one sample of a block's output."""
    return shapes.dtype.itemsize * prod(shapes.out_shape)


def ring_bytes(
    resolved: RunSpec, partition: Sequence[range], here: Sequence[int], *, mapped: bool,
    replicas: Replicas | None = None,
) -> int:  # fmt: skip
    """Bytes of the messages that processes ``here`` have sent when every queue is full.

    Slots of shared memory are all mapped; other queues hold no more than there are messages in an epoch.
    """
    batching = resolved.batching
    most = (batching.num_steps + batching.num_eval_batches) * batching.microbatches
    edges = edges_of(resolved, tuple(partition), resolved.config.transport.depth, replicas)
    return sum((e.depth if mapped else min(e.depth, most)) * e.slot_bytes for e in edges if e.src in here)
