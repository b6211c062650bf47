"""ResNet-18 of eight residual blocks, 11.2 million parameters at width 1 (He, Zhang, Ren and Sun 2016)."""

from pipeline.models._residual import ResidualOptions, residual_net, scaled
from pipeline.network.block import Blueprint

__all__ = ["build"]

_GROUPS = ((64, 2), (128, 2), (256, 2), (512, 2))


def build(
    input_shape: tuple[int, ...], num_outputs: int, *, options: ResidualOptions = ResidualOptions()
) -> list[Blueprint]:
    """Blueprints of ten blocks: the first convolution, 3 x 3 for small images, eight residual blocks, the output."""
    return residual_net("resnet18", scaled(64, options.width), _GROUPS, input_shape, num_outputs, options)
