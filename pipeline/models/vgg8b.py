"""VGG8B: six convolutions and two linear layers, 8.9 million parameters at 32x32 pixels (Nøkland, Eidnes 2019)."""

from pipeline.models._vgg import POOL, VggOptions, vgg
from pipeline.network.block import Blueprint

__all__ = ["build"]

_CHANNELS = (128, 256, POOL, 256, 512, POOL, 512, POOL, 512, POOL)


def build(
    input_shape: tuple[int, ...], num_outputs: int, *, options: VggOptions = VggOptions()
) -> list[Blueprint]:
    """Blueprints of eight blocks, for images of at least 16 x 16 pixels; see :func:`vgg`."""
    return vgg("vgg8b", _CHANNELS, input_shape, num_outputs, options)
