"""The sections of a config: frozen dataclasses, each of which refuses numbers that it cannot mean.

A section's docstrings are its reference: what a key does, in which unit, and what 0 stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pipeline.errors import ConfigError
from pipeline.numerics.wire_names import Wire
from pipeline.ranges import MOST_COUNTED, Count, Natural, NonNegative, Range, Seconds, check_fields

__all__ = [
    "MeasureConfig", "NamedConfig", "RestartConfig", "RunConfig", "ScheduleConfig", "SnapshotConfig", "TrainConfig",
    "TransportConfig",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NamedConfig:
    """A thing chosen by name, and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is other for some blocks, by their names: ``0-3``, ``8``, ``last``; see :mod:`pipeline.config.blocks`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of training, batch size and micro-batches."""

    epochs: Count = 20
    """Passes over the training set; in sequential mode, the most that one block may take."""
    batch_size: Count = 64
    """Samples per optimizer step."""
    microbatches: Natural = 0
    """Parts into which a batch is cut, one optimizer step for all of them: a stage then holds activations of fewer
    samples at a time. 0: 4 in the modes gpipe and 1f1b, else 1. Refused under the rules of similarity (sim, predsim,
    their bio variants, glob_sim), whose loss is of the whole batch; the statistics of batch normalisation become
    those of the parts, which is said when it happens."""
    in_flight: Count = 1
    """Maximum batches in flight for rules that wait for feedback. With n, every block but the last applies gradients
    n - 1 steps late, on any number of stages. Ignored by the baseline modes: ``pipedream`` keeps as many as there are
    stages from a block's own to the last, the others one."""
    classes_per_batch: Natural = 0
    """Training samples that choose the classes of a batch, which is filled up with others of these classes, so that a
    loss of similarity has pairs to match; see :func:`pipeline.data.class_order.limited_order`. 0: any classes. Refused
    where a batch would have no fewer, and under rules that ask which samples a batch has; outputs of frozen blocks are
    then not kept."""
    classes_until_epoch: Natural = 0
    """Epochs for which that holds. 0: all of them."""
    loss: Literal["cross_entropy", "logistic"] = "cross_entropy"
    """Of several classes: one softmax over them, or a logistic unit and a binary cross entropy for each, summed. Two
    classes in one output are a logistic unit either way."""
    eval_every: Count = 1
    """Epochs between evaluations on the test set, or on the validation set where there is one; the last epoch is always
    evaluated."""
    patience: Natural = 0
    """Evaluations without a better score on the validation set after which training stops, where blocks take turns
    that of a block; see :mod:`pipeline.schedules.selection`. 0: it does not. Refused without a validation set."""
    eval_batch_size: Natural = 0
    """Samples per evaluation batch. 0: as ``batch_size``."""
    nonfinite: Literal["stop", "skip", "ignore"] = "stop"
    """A loss, weight or buffer that is nan or infinite stops the run, with its block and step. skip: a block leaves
    out a batch whose loss or gradient of that block is not finite, as though it had not been there for the block;
    reading them waits for the device in every step, and what is not finite all the same stops the run. Refused where
    batches overlap (``in_flight`` above 1, pipedream). ignore: nothing is looked for. A loss of an evaluation stops the
    run by stop alone; else it is told once."""
    freeze: Natural | str = ""
    """Blocks that learn nothing: ``0-2``, ``5``, ``last``, ``0-1,4``. They run forward in evaluation mode and keep
    their weights and running statistics. Empty: none."""
    init_from: str = ""
    """Folder of a run that has ended, whose trained blocks this one starts from. Empty: initial weights are drawn."""
    init_blocks: Natural | str = ""
    """Blocks that start from there, named as in ``freeze``. Empty: all of them."""
    eval_passes: Count = 1
    """Monte Carlo forward passes per test sample, for stochastic networks (``model.activation = "bernoulli"``); the
    posteriors are averaged before they are scored."""

    def __post_init__(self) -> None:
        check_fields(self, "train.")
        if self.microbatches > self.batch_size:
            raise ConfigError(
                f"cannot cut a batch of {self.batch_size} into {self.microbatches} micro-batches "
                f"(train.microbatches: {self.microbatches}, expected: at most {self.batch_size}). Lower it."
            )
        if self.classes_per_batch > self.batch_size or (self.classes_until_epoch and not self.classes_per_batch):
            raise ConfigError(
                f"a batch is drawn from some of its own samples' classes (given: train.classes_per_batch = "
                f"{self.classes_per_batch}, train.classes_until_epoch = {self.classes_until_epoch}, expected: at most "
                f"{self.batch_size}, and not 0 where there is an end). Change them."
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Mode and schedule: which block trains when."""

    mode: str = "parallel"
    """A name of :data:`pipeline.schedules.modes.MODES`. ``pipedream`` applies late gradients, the later the more
    stages follow: what it learns depends on the partition."""
    patience: Count = 3
    """Sequential: epochs over which the loss must have improved, or the block is frozen."""
    tolerance: NonNegative = 0.01
    """Sequential: the relative improvement over ``patience`` epochs that counts as one."""
    cache: Literal["auto", "memory", "file", "off"] = "auto"
    """Sequential: where the outputs of frozen blocks are kept; auto is memory up to ``cache_limit_bytes``, then a
    memory-mapped file."""
    cache_limit_bytes: Annotated[int, Range(0, 2**63 - 1)] = 2 * 1024**3
    """Sequential: the most that ``cache = "auto"`` keeps in memory."""

    def __post_init__(self) -> None:
        check_fields(self, "schedule.")


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """Transport between stages."""

    name: str = "auto"
    """auto, inline, shared_memory, process_group, or a dotted name."""
    depth: Annotated[int, Range(1, 1_000_000)] = 4
    """Maximum activations waiting between two stages."""
    wire: Wire = "same"
    """What activations are rounded to between blocks, so that they travel in fewer bytes: bfloat16, float16, or int8
    with a scale for each sample, or position; see :mod:`pipeline.numerics.wire_format`. Feedback as well where the
    rule allows it, never a gradient. Part of the result, and the same on any number of stages over any transport."""
    wire_at: list[Count] = field(default_factory=list)
    """Blocks whose input is rounded, 1 to the last: where a slow link is to lie. Empty: all of them."""

    def __post_init__(self) -> None:
        check_fields(self, "transport.")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Placement and number formats of the run."""

    stages: Count | Literal["auto", "blocks"] = "auto"
    """Stage processes; auto: ranks, else GPUs, else physical cores, at most the number of blocks."""
    partition: Literal["measured", "parameters"] | list[Count] = "measured"
    """Partition of blocks into stages: by the measured time of each block, by parameters, or blocks per stage."""
    replicas: Count | Literal["auto"] | list[Count] = 1
    """Processes that share each stage's micro-batches, or a number for each stage; they add their gradients before
    each step, to the weights of one process with as many micro-batches. ``train.microbatches`` must be a multiple, and
    is the least one where it is 0. auto: what ``train.microbatches`` allows and cores, GPUs or ranks are there for,
    where the blocks take longest. Never changes the result."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda where there is one."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """Compute threads per stage; 0: the host's cores divided by its stages. Part of the result on CPU."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """``torch.set_float32_matmul_precision``. On CPU, medium hands float32 products to oneDNN, which is twice as
    fast as the default library on AMD cores with AVX-512, still in float32 there; CPUs with bfloat16 matrix units
    round the factors to bfloat16."""
    autocast: Literal["none", "bfloat16"] = "none"
    """Products and convolutions in bfloat16, see :mod:`pipeline.numerics.autocast`; weights and gradients stay in
    float32. Part of the result."""
    closed_form: bool = True
    """Differentiate dense blocks without normalisation by hand: the same bits as with false, which leaves them to
    autograd, in less time. Autograd differentiates them under autocast either way."""
    predict: bool = True
    """Dry run on synthetic data for about a second before the run, to predict its speed; see
    :mod:`workers.dry_run.dry_run`. With ``--plan``: try for a moment what this machine can run as it is
    planned. Never changes the result."""
    trace: bool = False
    """Also write ``trace.json``: what every stage did and when, for Perfetto."""
    channels_last: bool = False
    """Keep maps and the weights of convolutions channels last in memory, see :mod:`pipeline.numerics.memory_format`.
    Part of the result: convolutions sum in another order."""
    learn_after: Literal["block", "stage"] = "block"
    """Blocks with local losses learn right after their own forward pass, and one block's activations are held at a
    time; or after the stage's, which has then sent its activation on: the next stage starts sooner, more is held.
    The numbers are the same."""
    timeout_s: Seconds = 300.0
    """Longest wait for another stage while training, in seconds, up to 1e6."""
    start_timeout_s: Seconds = 3000.0
    """Longest wait for all stages to be ready, in seconds, up to 1e6: for the data to be read, for connections between
    stages, for the groups of ``torch.distributed``."""

    def __post_init__(self) -> None:
        check_fields(self, "run.")
        for name, what, value in (("partition", "blocks", self.partition), ("replicas", "processes", self.replicas)):
            if isinstance(value, list) and not value:
                raise ConfigError(
                    f"wrong value for run.{name} (given: {value}, expected: the number of {what} of each stage, at "
                    "least 1 each). Change it."
                )


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Measurements after the run, from the weights that its stages kept; see :mod:`pipeline.measure.epoch`."""

    every: Natural = 0
    """Epochs between measurements; the initial weights and the last epoch are measured as well. 0: none."""
    angles: bool = True
    """In each block, the angle between the rule's gradient and backpropagation's."""
    accuracies: bool = True
    """The test accuracy of each block, by its own decoder or, without one, by a ridge regression fitted to it."""
    updates: bool = True
    """How far the weights of each block have moved since the measurement before, as a share of their length."""
    maps: bool = False
    """The decision boundary at each block, for data of two numbers and two classes."""
    tsne: list[Natural] = field(default_factory=list)
    """Blocks whose representation is laid out by t-SNE, before the first and after the last epoch."""
    probe_samples: Annotated[int, Range(2, MOST_COUNTED)] = 512
    """Training samples in the batch on which angles are measured."""
    readout_samples: Annotated[int, Range(2, MOST_COUNTED)] = 2000
    """Training samples that ridge regressions and the class means of maps are taken from."""
    tsne_samples: Annotated[int, Range(4, MOST_COUNTED)] = 500
    """Test samples that t-SNE lays out."""
    keep_weights: bool = True
    """Keep the weights of the measured epochs in the run's folder."""

    def __post_init__(self) -> None:
        check_fields(self, "measure.")


@dataclass(frozen=True, kw_only=True)
class SnapshotConfig:
    """Snapshots, from which ``--resume`` goes on. They never change the result.

    The state at the end of a run is always kept, so that a run can be continued with more epochs.
    """

    every_steps: Natural = 0
    """Optimizer steps between snapshots. 0: none inside an epoch. Refused where several batches are in flight."""
    every_epochs: Natural = 0
    """Epochs between snapshots. 0: none."""
    keep: Count = 2
    """Newest snapshots that are kept; older ones make room for new ones."""

    def __post_init__(self) -> None:
        check_fields(self, "snapshot.")


@dataclass(frozen=True, kw_only=True)
class RestartConfig:
    """What happens when a stage's process dies or falls silent."""

    max_restarts: Natural = 0
    """Times that the run is taken up again, from its newest snapshot or, without one, from its start. A stage that
    raised would raise again: that ends the run. Under torchrun its own ``--max-restarts`` stands in for this."""

    def __post_init__(self) -> None:
        check_fields(self, "restart.")
