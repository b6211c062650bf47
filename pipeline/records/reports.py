"""Reports of a stage: plain data, as they travel to the coordinator and stand in the files of a run."""

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "BlockScores", "EpochRow", "GateRow", "NonFinite", "Pulse", "ScoreRow", "Sender", "SnapshotReport",
    "StageEpoch", "StageFailure", "StageProgress", "StageResult", "StageRow", "StalenessRow", "TimeRow", "process_of",
]  # fmt: skip


class TimeRow(TypedDict):
    """Seconds of a stage by activity, and their sum; see :class:`pipeline.records.time_budget.Activity`."""

    forward_s: float
    learn_s: float
    wait_recv_s: float
    wait_send_s: float
    transfer_s: float
    eval_s: float
    other_s: float
    wall_s: float


class StalenessRow(TypedDict):
    """Updates by their lateness: ``counts[n]`` were n updates late; mean and max are None where there was none."""

    mean: float | None
    max: int | None
    counts: list[int]


class NonFinite(TypedDict):
    """The first number of a stage's blocks that was found to be nan or infinite."""

    block: int
    epoch: int
    step: int
    """Of the run, from 0: the step itself of a loss; else the last step before it was found."""
    since: int
    """The first step in which it may have happened; ``step`` itself for a loss."""
    what: Literal["loss", "weight", "buffer", "batches", "validation_loss", "test_loss"]
    """batches: every batch of the epoch had to be left out. The last two: of the evaluation behind ``step``."""
    name: str
    """Of the weight or buffer."""
    value: str
    """nan, inf or -inf."""


class GateRow(TypedDict):
    """How far a block has gone along its steps in one epoch."""

    gate: NotRequired[float]
    """The mean part of its steps that it took; there only in the mode gated, while it learns."""
    drift: NotRequired[float]
    """How far its input moves, where that is measured; of several axes the mean."""
    axes: NotRequired[list[float]]
    """The least, the median and the most of the parts of an input's axes, where they have parts of their own."""
    drifts: NotRequired[list[float]]
    """In ``result.json``: the least, the median and the most of drift at the ends of the run's epochs."""
    rests_since: NotRequired[int]
    """Steps of the run that were done when the block came to rest; it takes none any more."""


class ScoreRow(TypedDict):
    """Scores of a block in one epoch, each None where there was nothing to measure."""

    train_loss: float | None
    test_accuracy: float | None
    test_loss: float | None
    credit: float | None
    """The share of samples that the block was updated for."""
    train_accuracy: NotRequired[float]
    """Of the output block, in training mode, before it learned from each batch."""
    skipped: NotRequired[int]
    """Batches that the block left out; there only where it did, see ``train.nonfinite``."""
    validation_accuracy: NotRequired[float | None]
    """There with a validation set, which is then scored after an epoch; the test set is not."""
    validation_loss: NotRequired[float | None]
    validation_metrics: NotRequired[dict[str, float]]
    test_metrics: NotRequired[dict[str, float]]
    """Other metrics of the task by name, where it has some: top5, bits_per_byte, perplexity, mse."""


class BlockScores(ScoreRow, GateRow):
    """Scores of a block, with its place."""

    block: int
    trained: bool


class Sender(TypedDict):
    """Which process reports, of a stage with several; empty of others."""

    process: NotRequired[int]
    """Its number among those of all stages."""
    replica: NotRequired[int]
    """Its number among those of its stage."""


class EpochRow(Sender):
    """A stage's finished epoch, as its program tells it."""

    epoch: int
    stage: int
    blocks: list[BlockScores]
    staleness: StalenessRow
    checked: int
    """The epoch's last step: nothing up to here is nan or infinite but ``nonfinite``."""
    nonfinite: NotRequired[NonFinite]
    cache_lost: NotRequired[str]
    """Why the outputs of frozen blocks could not be kept; from then on they are not."""
    scores_test: NotRequired[bool]
    """Nothing was learned: these are the scores of the test set, by the weights of the epoch that was chosen."""
    not_kept: NotRequired[str]
    """Why the weights could not be kept that are to be measured."""


class StageEpoch(EpochRow):
    """A stage's finished epoch, as it is reported."""

    samples: int
    """Training samples since the run's start."""
    time: TimeRow
    """Since the run's start."""


class StageProgress(Sender):
    """A stage's news inside an epoch."""

    stage: int
    epoch: int
    step: int
    samples: int
    loss: float | None
    fill: int | None
    """Messages waiting in front of the stage."""
    checked: int
    """No loss up to this step is nan or infinite but ``nonfinite``."""
    nonfinite: NotRequired[NonFinite]


class Pulse(TypedDict):
    """What a stage is doing, as its beats tell."""

    activity: str
    """The value of an :class:`pipeline.records.time_budget.Activity`."""
    seconds: float
    """In it so far."""
    epoch: int
    step: int
    """As in :class:`pipeline.schedules.position.Position`; -1 between epochs."""
    evaluates: bool
    """``step`` is a test batch."""


class StageRow(TimeRow):
    """A stage's row of ``result.json``; its names are fixed, scripts read them."""

    stage: int
    replica: int
    """Number of the process among those of its stage."""
    pid: int
    blocks: list[int]
    """First and last."""
    samples: int
    peak_rss_bytes: int
    peak_device_bytes: int | None
    parameter_bytes: int
    optimizer_bytes: int
    held_bytes: int
    queue_bytes: int
    bytes_sent: int
    bytes_per_step: float
    """Of training messages, a mean over optimizer steps."""
    staleness: StalenessRow


class StageResult(TypedDict):
    """A stage's last report."""

    row: StageRow
    process: NotRequired[int]
    """Its number among those of all stages, where a stage has several."""
    digests: dict[int, str]
    """SHA-256 of each block's parameters and buffers; of a stage's first replica."""
    twins: NotRequired[list[tuple[int, str]]]
    """The same, as another replica has them: blocks and digests."""
    steps: int
    folder: str
    """Of the weights."""
    trouble: NotRequired[str]
    """Why that is not in the run's folder."""
    files: list[tuple[int, int]]
    """Blocks, and the checksums of their files."""
    data_crc32: int | None
    """Of the data set; None from a stage that does not hold it."""


class SnapshotReport(TypedDict):
    """A stage has written the files of its blocks."""

    stage: int
    epoch: int
    step: int
    """Steps of the epoch that are done."""
    steps: int
    """Since the run's start."""
    files: list[tuple[int, int]]
    """Blocks, and the checksums of their files."""
    data_crc32: int | None
    """Of the data set; None from a stage that does not hold it."""
    error: str | None
    """Why the files could not be written."""


class StageFailure(TypedDict):
    """A stage's error."""

    stage: int
    kind: str
    """The name of the exception's class; ``died`` or ``interrupted`` where there is none."""
    message: str
    text: str
    """The traceback, or what is known of a death."""


def process_of(body: "StageEpoch | StageProgress") -> int:
    """The number of the process that reports: where each stage has one, its stage."""
    return body.get("process", body["stage"])
