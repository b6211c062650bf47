"""t-SNE layout of a block's output in the plane."""

import torch
from torch import Tensor

__all__ = ["PERPLEXITY", "embed"]

PERPLEXITY = 30.0
"""Perplexity, the effective number of neighbours; less where there are not three times as many samples."""


def embed(features: Tensor, seed: int) -> Tensor:
    """Lay features out in the plane: (samples, ...) to (samples, 2) float32.

    Source: van der Maaten and Hinton, "Visualizing Data using t-SNE" (2008), in scikit-learn's implementation.

    Args:
        features: at least four samples.
        seed: seed of the optimisation.
    """
    from sklearn.manifold import TSNE  # a second to import, which runs without t-SNE do not spend

    flat = features.flatten(1).float().cpu()
    if bool((flat == flat[0]).all()):  # an untrained network may send zeros, which have no layout
        return torch.zeros(len(flat), 2)
    plain = flat.shape[1] < 2
    tsne = TSNE(
        2, perplexity=min(PERPLEXITY, (len(flat) - 1) / 3), init="random" if plain else "pca",
        random_state=seed % 2**32,
    )  # fmt: skip
    return torch.from_numpy(tsne.fit_transform(flat.numpy())).float()
