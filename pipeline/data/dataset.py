"""Data sets: a specification that is known without loading, and two splits that are loaded on demand.

Every process plans with the specification, while only the stages at the ends of the pipeline hold images or labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.data.augment import Augment
from pipeline.data.chunking import Chunking
from pipeline.data.task import Labels, Task
from pipeline.errors import ConfigError, kind_and_text

__all__ = ["ArrayDataset", "DataSpec", "Dataset", "Normalisation", "Split", "Splits", "SplitsDataset"]


@dataclass(frozen=True)
class DataSpec:
    """Shapes and sizes of a data set, known without loading it."""

    input_shape: tuple[int, ...]
    """Shape of one sample: (channels, height, width), (features,), or (length,) of tokens."""
    task: Task
    num_train: int
    num_test: int
    is_augmented: bool = False
    """True where the training samples differ from epoch to epoch: ``Dataset.augment`` is not the identity, or they
    are windows that are drawn."""
    input_dtype: torch.dtype = torch.float32
    """What the network gets; an integer dtype for tokens, of which an embedding makes numbers."""
    num_tokens: int = 0
    """Different tokens, from 0; 0 where inputs are numbers."""
    stored_bytes: int = 0
    """Memory that both splits take; 0: that of their samples, each stored by itself."""
    is_mapped: bool = False
    """The samples stay in files, of which the system keeps in memory what there is room for."""
    num_validation: int = 0
    """Samples of a validation set; 0: there is none, and the test set is scored after every epoch."""
    has_pixels: bool | None = None
    """Samples are bytes of pixels, which are divided by 255; None where that is not said."""
    chunking: Chunking | None = None
    """How samples follow each other where they are chunks of sequences; None where they are independent."""

    def __post_init__(self) -> None:
        """Raises ValueError: tokens of no integer dtype, or integers that are not counted."""
        if self.input_dtype.is_floating_point == (self.num_tokens > 0):
            raise ValueError(
                f"tokens are integers, and counted (given: input_dtype = {self.input_dtype} with num_tokens = "
                f"{self.num_tokens}, expected: an integer dtype and at least 1, or a floating-point one and 0). "
                "Correct one of them."
            )


@dataclass
class Split:
    """Training or test samples as they are stored."""

    x: Tensor
    """uint8 images (samples, channels, height, width), float32 of any shape (samples, ...), or tokens of any integer
    dtype."""
    y: Tensor
    """Classes from 0 or numbers, (samples, *task.label_shape) of the task's ``label_dtype``."""

    @property
    def rows(self) -> Tensor | None:
        """Indices of the samples that belong to the split, (n,) int64; None for all."""
        return None

    @property
    def num_samples(self) -> int:
        """Of the split."""
        return len(self.y) if self.rows is None else len(self.rows)

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """What a checksum of the samples is taken of."""
        return self.x, self.y

    def take(self, rows: Tensor) -> "Split":
        """Some of the samples, in memory of their own. Args: rows, indices, (n,) int64."""
        return Split(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / std`` per channel, on pixels scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Dataset(ABC):
    """Base of data sets, which ``build`` of a file in ``pipeline/datasets`` returns; picklable."""

    spec: DataSpec
    augment: Augment = Augment()
    normalisation: Normalisation | None = None

    @abstractmethod
    def load(self) -> tuple[Split, Split]:
        """Load the training and test samples, neither normalised nor augmented.

        Raises:
            ConfigError: the files cannot be read, or their contents do not match ``spec``.
        """

    def load_all(self) -> "Splits":
        """The training, validation and test samples; no validation set where ``spec`` has none. Raises: see load."""
        train, test = self.load()
        return Splits(train, None, test)


class Splits(NamedTuple):
    """All samples of a data set."""

    train: Split
    validation: Split | None
    test: Split

    @property
    def scored(self) -> Split:
        """What is scored while a run goes on: the validation set where there is one."""
        return self.test if self.validation is None else self.validation

    @property
    def arrays(self) -> list[Tensor]:
        """What a checksum of the data is taken of, see :attr:`Split.arrays`."""
        return [array for split in (self.train, self.test, self.validation) if split for array in split.arrays]


class SplitsDataset(Dataset):
    """Base of data sets that come with all their splits at once, where one may be there for validation."""

    @abstractmethod
    def load_all(self) -> Splits:
        """See :class:`Dataset`."""

    def load(self) -> tuple[Split, Split]:
        """See :class:`Dataset`."""
        splits = self.load_all()
        return splits.train, splits.test


class ArrayDataset(SplitsDataset):
    """Data set whose splits are arrays that one function reads.

    Args:
        name: name for error messages.
        spec: shapes and sizes of the splits; ``is_augmented`` is filled in.
        read: picklable function without arguments that returns the training and the test split, or all
            :class:`Splits` where there is a validation set.
        augment: augmentation of the training images.
        normalisation: None leaves pixels in [0, 1] and features as they are.
        remedy: next move when the contents are wrong, a sentence for the error message.
    """

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        read: Callable[[], "tuple[Split, Split] | Splits"],
        *,
        augment: Augment = Augment(),
        normalisation: Normalisation | None = None,
        remedy: str = "Choose another data set.",
    ) -> None:
        self.name = name
        self.spec = replace(spec, is_augmented=not augment.is_identity)
        self.augment = augment
        self.normalisation = normalisation
        self._read = read
        self._remedy = remedy

    def load_all(self) -> Splits:
        """See :class:`Dataset`."""
        try:
            found = self._read()
        except ConfigError:
            raise
        except Exception as error:  # readers of damaged files raise whatever they stumble over
            reason = kind_and_text(error)
            raise ConfigError(f"cannot read the data set {self.name} ({reason}). {self._remedy}") from error
        splits = found if isinstance(found, Splits) else Splits(found[0], None, found[1])
        self._check("training", splits.train, self.spec.num_train)
        self._check("test", splits.test, self.spec.num_test)
        if splits.validation is not None:
            self._check("validation", splits.validation, self.spec.num_validation)
        return splits

    def _check(self, noun: str, split: Split, num_samples: int) -> None:
        """Raise ConfigError unless a split matches ``spec``, as truncated files do not; a worker would see a shape
        error."""
        task = self.spec.task
        expected, labels = (num_samples, *self.spec.input_shape), (num_samples, *task.label_shape)
        if tuple(split.x.shape) != expected or split.y.shape != labels or split.y.dtype != task.label_dtype:
            given = f"inputs {tuple(split.x.shape)}, labels {tuple(split.y.shape)} of {split.y.dtype}"
            raise ConfigError(
                f"the {noun} samples of {self.name} have other shapes than expected (given: {given}, "
                f"expected: inputs {expected}, labels {labels} of {task.label_dtype}). {self._remedy}"
            )
        if task.labels is not Labels.NUMBERS:
            # One output scores two classes.
            self._check_range(f"{noun} label", split.y, max(task.num_outputs, 2))
        if self.spec.num_tokens:
            if split.x.is_floating_point():
                raise ConfigError(
                    f"the {noun} samples of {self.name} are no tokens (given: {split.x.dtype}, expected: integers). "
                    f"{self._remedy}"
                )
            self._check_range(f"{noun} token", split.x, self.spec.num_tokens)

    def _check_range(self, noun: str, values: Tensor, count: int) -> None:
        """Raise ConfigError unless integers are 0 to ``count - 1``."""
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= count:
            raise ConfigError(
                f"a {noun} of {self.name} is out of range (given: {low} to {high}, "
                f"expected: 0 to {count - 1}). {self._remedy}"
            )
