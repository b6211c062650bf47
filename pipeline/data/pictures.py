"""Pictures as Pillow has them, and what is made of each for a network: turned upright, grey or in colour."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

__all__ = ["MODES", "height_and_width", "opened", "unclear", "upright"]

MODES = {1: "L", 3: "RGB"}
"""Modes of Pillow by the number of channels."""
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The tag of EXIF that says how a camera was held, and its values that swap width and height."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture file in any of Pillow's formats but EPS, which is a program, for another program to run.

    Raises:
        Exception: it is damaged, or none: decoders raise whatever they stumble over.
    """
    Image.init()
    with Image.open(path, formats=[name for name in Image.ID if name != "EPS"]) as image:
        yield image


def height_and_width(image: Image.Image) -> tuple[int, int]:
    """Of a picture turned upright, which need not be decoded for it."""
    width, height = image.size
    return (width, height) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else (height, width)


def unclear(image: Image.Image) -> str | None:
    """What of a picture grey or red, green and blue of 8 bits would not show; None where that is nothing."""
    if image.mode.startswith(("I", "F")):
        return f"more than 8 bits a pixel, mode {image.mode}"
    if image.has_transparency_data and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
        return "transparent pixels"
    return None


def upright(image: Image.Image, channels: int) -> Image.Image:
    """The picture as its camera was held, in 1 channel (grey) or 3 (colour)."""
    return ImageOps.exif_transpose(image).convert(MODES[channels])
