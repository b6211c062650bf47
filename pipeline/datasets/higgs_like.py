"""A stand-in for HIGGS: as many inputs and classes, to be streamed once. Made on the spot by scikit-learn."""

from functools import partial
from pathlib import Path
from typing import Annotated

import torch

from pipeline.data.dataset import ArrayDataset, Dataset, DataSpec, Split
from pipeline.data.task import Classification
from pipeline.numerics.seeds import derive
from pipeline.ranges import Count, Positive, Range, Seed

__all__ = ["build"]

_INPUTS, _INFORMATIVE, _REDUNDANT, _CLUSTERS = 28, 14, 7, 8
Share = Annotated[float, Range(0, 1)]


def build(
    root: Path, *, num_train: Count = 200_000, num_test: Count = 20_000, noise: Share = 0.2, separation: Positive = 1.0,
    sample_seed: Seed = 0,
) -> Dataset:  # fmt: skip
    """Make the data set: inputs (28,), one of two classes, each of 8 clusters.

    None of HIGGS is in it, whose 11 million rows are a download: of 28 inputs 14 tell the classes apart, 7 are sums of
    these, 7 are noise. Nothing that is published of HIGGS can be compared with a run on it.

    Args:
        root: not read.
        num_train: number of training samples.
        num_test: number of test samples.
        noise: share of the labels that are drawn at random; half of them are wrong.
        separation: distance between clusters.
        sample_seed: seed of the samples, apart from the run's seed, so that runs of several seeds share their data.
    """
    spec = DataSpec((_INPUTS,), Classification(2), num_train, num_test, has_pixels=False)
    return ArrayDataset("higgs_like", spec, partial(_make, spec, noise, separation, sample_seed))


def _make(spec: DataSpec, noise: float, separation: float, sample_seed: int) -> tuple[Split, Split]:
    # Imported here: scikit-learn takes a second, and only the ends of the pipeline read samples.
    from sklearn.datasets import make_classification

    x, y = make_classification(
        spec.num_train + spec.num_test, _INPUTS, n_informative=_INFORMATIVE, n_redundant=_REDUNDANT, n_classes=2,
        n_clusters_per_class=_CLUSTERS, flip_y=noise, class_sep=separation,
        random_state=derive(sample_seed, "higgs_like") % 2**32,
    )  # fmt: skip
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(y).long()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    cut = spec.num_train
    return Split(inputs[:cut].clone(), labels[:cut].clone()), Split(inputs[cut:].clone(), labels[cut:].clone())
