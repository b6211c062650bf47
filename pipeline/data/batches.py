"""Batches of an epoch, each a pure function of (seed, epoch, index).

A run that was resumed, or cut into other stages, sees the same samples in the same order and form without stored
random state.
"""

import zlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pipeline.data.augment import Augment, crop, cutout, draw, flip
from pipeline.data.class_order import ClassLimit, limited_order
from pipeline.data.dataset import Dataset, Normalisation, Split
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive, mix

__all__ = ["Batches", "affine", "crc32_of", "epoch_order", "upload"]


def epoch_order(seed: int, epoch: int, num_samples: int) -> Tensor:
    """Order of the training samples in an epoch, (num_samples,) int64 on the CPU."""
    generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
    return torch.randperm(num_samples, generator=generator)


def free_bytes(device: torch.device) -> int:
    """Free memory of a CUDA device, in bytes."""
    return int(torch.cuda.mem_get_info(device)[0])


class Batches:
    """Normalised, augmented batches of a split on ``device``.

    The raw samples are on the device if they fit. Otherwise they stay in the host's memory, and each batch is gathered
    there and copied.

    Args:
        split: raw samples, kept without a copy where they are on the device already.
        dataset: data set, for its normalisation and augmentation.
        batch_size: samples per batch; the last batch of an epoch may be smaller.
        seed: seed of the run.
        device: device of the batches.
        train: True shuffles and augments; False keeps the samples and their order as they are.
        resident_share: share of the device's free memory that the raw samples may take. Host memory is not counted:
            the samples are there in any case.
        classes: few classes in a batch; None for any.

    Raises:
        ConfigError: a batch size below 1, or augmentation of samples that are not images.
    """

    def __init__(
        self,
        split: Split,
        *,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        train: bool,
        resident_share: float = 0.6,
        classes: ClassLimit | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(
                f"the batch size is out of range (given: train.batch_size={batch_size}, expected: 1 or more). Raise it."
            )
        self._augment = dataset.augment if train else Augment()
        if not self._augment.is_identity and split.x.dim() != 4:
            raise ConfigError(
                f"only images can be augmented (given: samples of shape {tuple(split.x.shape[1:])}, "
                "expected: channels, height, width). Set crop_padding, flip and cutout to 0 or false."
            )
        self._device = torch.device(device)
        self._train = train
        self._classes = classes
        self._seed = seed
        self._batch_size = batch_size
        self.num_samples, self._rows = split.num_samples, split.rows
        self.num_batches = -(-self.num_samples // batch_size)
        self._x = split.x.contiguous()
        if _fits(self._x, self._device, resident_share):
            self._x = self._x.to(self._device)
        self._y = split.y.to(self._device)
        dtype = dataset.spec.input_dtype
        self._tokens = None if dtype.is_floating_point else dtype
        self._affine = affine(self._x, dataset.normalisation, self._device) if self._tokens is None else None
        self._generator = torch.Generator()
        self._placed: tuple[int, Sequence[Tensor], Sequence[Tensor]] | None = None

    @property
    def arrays(self) -> Sequence[Tensor]:
        """Raw samples and labels."""
        return self._x, self._y

    def order(self, epoch: int) -> Tensor:
        """Indices of an epoch's samples in the order of its batches, (num_samples,) int64 on the CPU, in the arrays of
        the split."""
        if self._train:
            order, limit = epoch_order(self._seed, epoch, self.num_samples), self._classes
            if self._rows is not None:
                order = self._rows[order]
            if limit is None or not limit.holds(epoch):
                return order
            return limited_order(order, self._y.cpu(), self._batch_size, limit.num_drawn)
        return torch.arange(self.num_samples) if self._rows is None else self._rows

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Batch ``index`` of an epoch: inputs (batch, ...), labels (batch, ...), in new memory.

        Inputs are float32, or of the integer dtype that the data set says its network takes.

        Raises:
            IndexError: the epoch has no such batch.
        """
        if not 0 <= index < self.num_batches:
            raise self._no_batch(index)
        chosen_x, chosen_y = self._chosen(epoch)
        x = self._x.index_select(0, chosen_x[index])
        if self._x.device != self._device:
            x = upload(x, self._device)
        return self._transform(x, epoch, index), self._y.index_select(0, chosen_y[index])

    def _no_batch(self, index: int) -> IndexError:
        """What is raised for a batch beyond the epoch's."""
        return IndexError(
            f"no such batch (given: {index}, expected: 0 to {self.num_batches - 1}). Start the next epoch."
        )

    def _chosen(self, epoch: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Indices of the epoch's samples batch by batch, on the samples' device and on the labels'; cached."""
        if self._placed is None or self._placed[0] != epoch:
            order = self.order(epoch)
            beside = [torch.split(order.to(device), self._batch_size) for device in (self._x.device, self._device)]
            self._placed = epoch, beside[0], beside[1]
        return self._placed[1], self._placed[2]

    def _transform(self, raw: Tensor, epoch: int, index: int) -> Tensor:
        """Augment and normalise raw samples. Cropping works on bytes, cutout on normalised values."""
        settings = self._augment
        if settings.is_identity:
            return self._normalise(raw)
        self._generator.manual_seed(mix(derive(self._seed, "augment", epoch), index))
        chance = draw(settings, raw.shape, self._generator, self._device)
        if settings.crop_padding:
            raw = crop(raw, settings.crop_padding, chance.top, chance.left)
        if settings.flip:
            raw = flip(raw, chance.mirrored)
        x = self._normalise(raw)
        if settings.cutout:
            x = cutout(x, settings.cutout, chance.row, chance.column)
        return x

    def _normalise(self, raw: Tensor) -> Tensor:
        x = raw.float() if self._tokens is None else raw.to(self._tokens)
        if self._affine is None:
            return x
        scale, shift = self._affine
        return x.mul_(scale).add_(shift)


def crc32_of(arrays: Iterable[Tensor]) -> int:
    """Checksum of the bytes of a data set's arrays, on any device: a run is resumed on the data that it began with."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def _fits(x: Tensor, device: torch.device, share: float) -> bool:
    """True if ``x`` takes at most ``share`` of the free memory of ``device``, or that is no CUDA device."""
    return device.type != "cuda" or x.numel() * x.element_size() <= share * free_bytes(device)


def upload(x: Tensor, device: torch.device) -> Tensor:
    """Copy a host batch to the device. Pinned batch by batch: a gathered batch is new memory."""
    if device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def affine(x: Tensor, normalisation: Normalisation | None, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Scale and shift per channel from raw to normalised samples; None for the identity."""
    unit = 255.0 if x.dtype == torch.uint8 else 1.0
    if normalisation is None:
        if unit == 1.0:
            return None
        normalisation = Normalisation((0.0,), (1.0,))
    mean = torch.tensor(normalisation.mean, dtype=torch.float64)
    std = torch.tensor(normalisation.std, dtype=torch.float64)
    shape = (1, -1, *[1] * (x.dim() - 2))
    scale, shift = (1 / (unit * std)).view(shape), (-mean / std).view(shape)
    return scale.to(device, torch.float32), shift.to(device, torch.float32)
