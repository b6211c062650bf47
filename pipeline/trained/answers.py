"""Answers of a trained network about files: pictures, or arrays in ``.npz``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.batches import affine
from pipeline.data.pictures import MODES, height_and_width, opened, unclear, upright
from pipeline.data.task import Labels, Task
from pipeline.errors import ConfigError, one_line
from pipeline.records.network_facts import NetworkFacts
from pipeline.trained.network import TrainedNetwork
from pipeline.trained.sources import is_file

__all__ = ["Answer", "answers", "read_samples"]

_ARRAY = "x"
_BATCH = 256


@dataclass(frozen=True)
class Answer:
    """What the network says of one sample."""

    name: str
    """Of the file, with the sample's place in it where it holds several: ``some.npz[3]``."""
    label: int
    probability: float
    """Of that class, as the network has it: by softmax, or by its logistic unit."""


def answers(network: TrainedNetwork, files: Sequence[Path]) -> Iterator[Answer]:
    """What the network says of each sample of the files, in their order.

    All files are read before the first answer.

    Raises:
        ConfigError: a file is not there, is neither a picture nor an ``.npz``, or holds other samples than the network
            takes; or the network does not tell one class for each sample.
    """
    task = network.recipe.facts.task
    assert task is not None, "a network that was built has one"
    if task.labels is not Labels.CLASS:
        raise ConfigError(
            "the network names no class of a sample (given: one that has learned labels which are "
            f"{task.labels.value}, expected: one class for each sample). Use onward.load for its scores, or --generate "
            "for text."
        )
    samples = [read_samples(network, path) for path in files]
    for path, x in zip(files, samples, strict=True):
        is_array = _is_array(path)
        for start in range(0, len(x), _BATCH):
            try:
                told = _told(network, task, x[start : start + _BATCH])
            except IndexError as error:  # of an embedding, where the run does not say how many tokens there are
                raise ConfigError(
                    f"the network does not take these tokens (given: {path}, {one_line(error)}; expected: those that "
                    "it has learned). Correct the file."
                ) from None
            for k, (label, probability) in enumerate(told, start):
                yield Answer(f"{path}[{k}]" if is_array else str(path), label, probability)


def read_samples(network: TrainedNetwork, path: Path) -> Tensor:
    """The samples in a file, normalised as the run's data set is: (samples, *input_shape) float32, or tokens.

    Args:
        network: says what it takes.
        path: a picture of the size that the network takes, in any of Pillow's formats but EPS, turned as its EXIF says;
            or an ``.npz`` with an array ``x``, or one array alone: bytes of pixels, or numbers as the data set has them
            before it normalises; whole numbers where the network takes tokens.

    Raises:
        ConfigError: see :func:`answers`.
    """
    if not is_file(path):
        raise ConfigError(f"there is no such file (given: {path}, expected: a picture or an .npz). Name another one.")
    facts = network.recipe.facts
    raw = _from_npz(path, facts) if _is_array(path) else _from_picture(path, facts)
    if tuple(raw.shape[1:]) != facts.input_shape:
        raise _other_shape(path, tuple(raw.shape[1:]), facts.input_shape)
    if _takes_tokens(facts):
        return _tokens(path, raw, facts)
    if raw.is_floating_point() and not bool(raw.isfinite().all()):
        raise ConfigError(f"a number is nan or infinite (given: {path}, expected: finite numbers). Correct the file.")
    scale = affine(raw, facts.normalisation, torch.device("cpu"))
    return raw.float() if scale is None else raw.float().mul(scale[0]).add(scale[1])


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _takes_tokens(facts: NetworkFacts) -> bool:
    return not facts.input_dtype.is_floating_point


def _tokens(path: Path, raw: Tensor, facts: NetworkFacts) -> Tensor:
    """Whole numbers that the network has an embedding of, as far as its run says which these are."""
    if raw.is_floating_point() or raw.dtype == torch.bool:
        raise ConfigError(
            f"the network takes tokens (given: {path}, {raw.dtype}; expected: whole numbers, int64). Convert them."
        )
    tokens, last = raw.to(torch.int64), facts.num_tokens - 1
    low, high = (int(end) for end in tokens.aminmax()) if tokens.numel() else (0, 0)
    if low < 0 or high > last >= 0:
        raise ConfigError(
            f"there is no such token (given: {path}, {low if low < 0 else high}; expected: "
            f"{f'0 to {last}' if last >= 0 else 'from 0'}). Correct the file."
        )
    return tokens.to(facts.input_dtype)


def _from_npz(path: Path, facts: NetworkFacts) -> Tensor:
    """The array of an ``.npz``, nothing of which is executed: bytes, tokens, or float32."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            name = _ARRAY if _ARRAY in found.files or len(found.files) != 1 else found.files[0]
            array = found[name]
        kept = torch.from_numpy(np.ascontiguousarray(array))
        if kept.is_complex():
            raise TypeError("complex numbers")
    except Exception as error:  # readers of damaged files raise whatever they stumble over
        raise _unreadable(path, error, f"an .npz with an array {_ARRAY!r} of numbers") from None
    if _takes_tokens(facts):
        return kept
    has_pixels = _is_picture(facts.input_shape) or facts.normalisation is not None or facts.has_pixels
    if kept.dtype == torch.uint8 and has_pixels is None:
        raise ConfigError(
            f"bytes may be pixels, or numbers as they are (given: {path}, uint8, and a run that does not say what it "
            "has learned from; expected: floating-point numbers, pixels divided by 255). Convert them."
        )
    if kept.dtype == torch.uint8 and has_pixels:
        return kept
    if has_pixels and not kept.is_floating_point() and kept.dtype != torch.bool:
        raise ConfigError(
            f"whole numbers may be pixels, or scaled already (given: {path}, {array.dtype}; expected: uint8 for pixels "
            "of 0 to 255, or floating-point numbers as the data set has them). Convert them."
        )
    return kept.float()


def _from_picture(path: Path, facts: NetworkFacts) -> Tensor:
    """The pixels of a picture, (1, channels, height, width) uint8."""
    shape = facts.input_shape
    if not _is_picture(shape) or _takes_tokens(facts):
        raise ConfigError(
            f"the network takes no pictures (given: {path}, expected: an .npz of samples of shape {shape}). Name one."
        )
    try:
        with opened(path) as image:
            if height_and_width(image) != shape[1:]:  # before it is decoded, which may take any memory
                raise _other_shape(path, (shape[0], *height_and_width(image)), shape)
            if (given := unclear(image)) is not None:
                raise ConfigError(
                    f"the picture is not clear (given: {path}, {given}; expected: opaque, 8 bits a channel). Convert "
                    "it, or pass an .npz."
                )
            pixels = np.asarray(upright(image, shape[0]))
    except ConfigError:
        raise
    except Exception as error:  # decoders of damaged pictures raise whatever they stumble over
        raise _unreadable(path, error, "a picture or an .npz") from None
    return torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1).transpose(0, 3, 1, 2).copy())


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in MODES


def _other_shape(path: Path, given: tuple[int, ...], expected: tuple[int, ...]) -> ConfigError:
    return ConfigError(
        f"the file holds other samples than the network takes (given: {path}, shape {given}, expected: {expected}). "
        "Name another one, or change its size."
    )


def _unreadable(path: Path, error: Exception, expected: str) -> ConfigError:
    return ConfigError(
        f"cannot read the file (given: {path}, {one_line(error)}; expected: {expected}). Name another one."
    )


@torch.no_grad()
def _told(network: TrainedNetwork, task: Task, x: Tensor) -> list[tuple[int, float]]:
    """Label and probability of each sample. Args: x, (batch, *input_shape)."""
    like = next(network.parameters())
    scores = network(x.to(like if x.is_floating_point() else like.device)).double().cpu()
    labels, chances = task.told(scores)
    return list(zip(labels.tolist(), chances.tolist(), strict=True))
