"""A part of the training samples held out for validation: never trained on, a function of the run's seed."""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.data.dataset import Dataset, Splits, SplitsDataset
from pipeline.data.task import Labels
from pipeline.errors import ConfigError
from pipeline.numerics.seeds import derive

__all__ = ["HeldOut", "held_out_rows"]


class HeldOut(SplitsDataset):
    """A data set with a validation set, taken from its training samples.

    Args:
        dataset: has none of its own.
        share: of the training samples, in (0, 1).
        seed: the run's.
        name: of the data set, for error messages.

    Raises:
        ConfigError: the data set has a validation set, no sample would be left, or it is cut into windows anew in every
            step, so that no sample can be held out.
    """

    def __init__(self, dataset: Dataset, share: float, seed: int, name: str) -> None:
        spec = dataset.spec
        count = round(spec.num_train * share)
        given = f"dataset.validation = {share} of {spec.num_train} training samples of {name}"
        if spec.num_validation:
            raise ConfigError(
                f"there is a validation set already (given: {given}, which come with {spec.num_validation} samples for "
                "validation; expected: one of the two). Leave dataset.validation out."
            )
        if spec.is_augmented and dataset.augment.is_identity:
            raise ConfigError(
                f"no sample can be held out of a stream (given: {given}, whose windows are drawn anew in every step; "
                "expected: a data set of samples). Leave dataset.validation out."
            )
        if spec.chunking is not None:
            raise ConfigError(
                f"no sample can be held out of sequences whose chunks follow each other (given: {given}; expected: "
                "samples that are independent). Leave dataset.validation out."
            )
        if not 0 < count < spec.num_train:
            raise ConfigError(
                f"nothing would be left (given: {given}; expected: at least 1 sample for validation and 1 to train "
                "on). Change it."
            )
        self.spec = replace(spec, num_train=spec.num_train - count, num_validation=count)
        self.augment, self.normalisation = dataset.augment, dataset.normalisation
        self._dataset, self._seed = dataset, seed

    def load_all(self) -> Splits:
        """See :class:`Dataset`."""
        train, test = self._dataset.load()
        count, has_classes = self.spec.num_validation, self.spec.task.labels is Labels.CLASS
        labels = train.y if has_classes else torch.zeros(len(train.y), dtype=torch.int64)
        is_held_out = torch.zeros(len(labels), dtype=torch.bool)
        is_held_out[held_out_rows(labels.reshape(len(labels)), count, self._seed)] = True
        kept, held_out = (~is_held_out).nonzero().squeeze(1), is_held_out.nonzero().squeeze(1)
        return Splits(train.take(kept), train.take(held_out), test)


def held_out_rows(labels: Tensor, count: int, seed: int) -> Tensor:
    """Chooses samples at random, as many of each class as its share of all samples says.

    Shares are rounded down, and the classes with the largest remainders give one sample more, the lower ones among
    equals, so that there are ``count`` in all.

    Args:
        labels: (samples,) int64, from 0.
        count: samples to choose, at most all.
        seed: the run's.

    Returns:
        Their indices, (count,) int64.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(derive(seed, "validation")))
    sizes = torch.bincount(labels)
    wanted, remainders = sizes * count // len(labels), sizes * count % len(labels)
    largest = remainders.sort(descending=True, stable=True).indices[: count - int(wanted.sum())]
    wanted[largest] += 1
    shuffled = labels[order]
    chosen = [order[shuffled == label][:number] for label, number in enumerate(wanted.tolist())]
    return torch.cat(chosen)
