"""Samples for measurements: fixed, drawn from the run's seed, and never augmented."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.batches import Batches
from pipeline.data.dataset import Dataset, Split
from pipeline.numerics.seeds import derive, mix
from pipeline.resolve import RunSpec, load_dataset

__all__ = ["MeasureSamples", "Samples", "load_samples"]

Samples = tuple[Tensor, Tensor]
"""Inputs (n, ...) as the network gets them, and labels (n,)."""


@dataclass(frozen=True)
class MeasureSamples:
    """Samples for each kind of measurement."""

    batch: Samples
    """Training samples for gradients."""
    fit: Samples
    """Training samples for linear probes and the class means of decision maps."""
    shown: Samples
    """Test samples for t-SNE."""
    test: Batches
    """The whole test set; the validation set where there is one, for the test set is scored by the run alone."""


def load_samples(resolved: RunSpec, data_root: Path, device: torch.device) -> MeasureSamples:
    """Load the data set and draw the samples.

    Raises:
        ConfigError: the data set cannot be read any more.
    """
    config, measure = resolved.config, resolved.config.measure
    dataset = load_dataset(config, data_root)
    splits = dataset.load_all()
    train, test = splits.train, splits.scored

    def drawn(split: Split, purpose: str, count: int) -> Samples:
        generator = torch.Generator().manual_seed(mix(derive(config.seed, "measure", purpose), 0))
        chosen = torch.randperm(split.num_samples, generator=generator)[:count]
        return _feed(split.take(chosen), dataset, len(chosen), config.seed, device).batch(0, 0)

    return MeasureSamples(
        drawn(train, "probe", measure.probe_samples), drawn(train, "readout", measure.readout_samples),
        drawn(test, "tsne", measure.tsne_samples),
        _feed(test, dataset, resolved.batching.eval_batch_size, config.seed, device),
    )  # fmt: skip


def _feed(split: Split, dataset: Dataset, batch_size: int, seed: int, device: torch.device) -> Batches:
    return Batches(split, dataset=dataset, batch_size=batch_size, seed=seed, device=device, train=False)
