"""A run, and the filters of its last hidden layer with every nonlinearity dropped.

    python -m benchmarks.filters --config CONFIG --out DIR [--data-root DIR]

Without nonlinearities the hidden layers are one matrix ``F = W_n ... W_1``, and each of its rows is an image: the input
of unit length to which the linear unit answers most. ``filters.json`` in the run's folder has the mean total variation
of these images before and after training and the first of them as pictures, ``filters.npz`` has all of them.

Source: Ororbia, Mali, Kifer and Giles, "Conducting Credit Assignment by Aligning Local Representations" (2018), figure
3. The total variation is not theirs: it stands here for how noisy a filter looks.
"""

import argparse
import base64
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cell_program import flags, run_program
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.measure.whole_network import WholeNetwork
from pipeline.records.files import whole_file, write_json
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import RunSpec, resolve
from workers import train

__all__ = ["RESULT", "filters_of", "linear_filters", "pictures", "shades", "total_variation"]

RESULT = "filters.json"
SHOWN = 8
"""Filters that are kept as pictures: the first ones."""


def linear_filters(weights: Sequence[Tensor]) -> Tensor:
    """The layers' product, (units of the last, inputs of the first) float64.

    Args:
        weights: of each layer, (outputs, inputs), the lowest first.
    """
    product = weights[0].double()
    for weight in weights[1:]:
        product = weight.double() @ product
    return product


def total_variation(images: Tensor) -> float:
    """Mean over images of the sum of the absolute differences between pixels that are side by side or one above the
    other, each image scaled to unit length; 0 for one that is the same everywhere, about 61 for noise of 28 x 28.

    Args:
        images: (images, height, width); one of zeros has the variation 0.
    """
    unit = torch.nn.functional.normalize(images.double().flatten(1), dim=1).view(images.shape)
    across, down = unit.diff(dim=2).abs().sum((1, 2)), unit.diff(dim=1).abs().sum((1, 2))
    return float((across + down).mean())


def shades(images: Tensor) -> Tensor:
    """Images in shades of grey, each scaled to its own extremes: (images, height, width) to the same, uint8."""
    flat = images.double().flatten(1)
    least, most = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    span = torch.where(most > least, most - least, torch.ones_like(most))  # of a flat image every shade is 0
    return (255 * (flat - least) / span).round().to(torch.uint8).view(images.shape)


def filters_of(network: WholeNetwork, shape: Sequence[int]) -> Tensor:
    """Filters of the last hidden layer as images, (units, height, width).

    Args:
        network: of one matrix per block; its last block is the output's.
        shape: of a sample, one channel of pixels.

    Raises:
        ConfigError: it is another network, or a sample is no image.
    """
    hidden = network.weights()[:-1]
    if not hidden or any(len(block) != 1 or block[0].dim() != 2 for block in hidden):
        raise ConfigError(
            "these layers have no filters that are images (given: hidden blocks of "
            f"{', '.join(str(len(block)) for block in hidden) or 'no'} weights, expected: one matrix in each). "
            "Set model.name to mlp or half_mlp, and model.norm to none."
        )
    if len(shape) != 3 or shape[0] != 1:
        raise ConfigError(
            f"a filter of these inputs is no image (given: samples of shape {tuple(shape)}, expected: one channel of "
            "pixels, (1, height, width)). Choose another data set, e.g. dataset.name = 'mnist'."
        )
    return linear_filters([matrix for (matrix,) in hidden]).view(-1, *shape[1:])


def pictures(found: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The filters that ``filters.json`` shows, (images, height, width). Args: found, what is in that file."""
    raw = [np.frombuffer(base64.b64decode(text), np.uint8) for text in found["shown"]]
    return np.stack(raw).reshape(-1, *found["shape"])


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, or 2 for a config that is wrong; a run that fails raises."""
    return run_program("benchmarks.filters", flags(__doc__), _run, arguments)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    config = load_config(options.config).config
    resolved = resolve(config, options.data_root)
    before = _filters(resolved, None)  # first: a network without such filters is not trained for nothing
    train(config, out=options.out, data_root=options.data_root, command=["-m", "benchmarks.filters", *arguments])
    after = _filters(resolved, options.out)
    shown = [base64.b64encode(picture.numpy().tobytes()).decode() for picture in shades(after[:SHOWN])]
    write_json(options.out / RESULT, {
        "before": total_variation(before), "after": total_variation(after), "shape": list(after.shape[1:]),
        "shown": shown,
    })  # fmt: skip
    with whole_file(options.out / "filters.npz") as part, part.open("wb") as file:
        np.savez_compressed(file, before=before.float().numpy(), after=after.float().numpy())


def _filters(resolved: RunSpec, out: Path | None) -> Tensor:
    """Of the weights that a run has ended with, or of its initial ones."""
    states = None if out is None else load_blocks(latest_weights(out))
    network = WholeNetwork(resolved, 0 if out is None else 1, states, torch.device("cpu"))
    return filters_of(network, resolved.data.input_shape)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
