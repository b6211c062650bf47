"""Wide residual networks, pre-activation (Zagoruyko and Komodakis 2016): WRN-10-8 is ``depth = 10``, ``width = 8``."""

from pipeline.errors import ConfigError
from pipeline.models._residual import ResidualOptions, residual_net
from pipeline.network.block import Blueprint
from pipeline.ranges import Count

__all__ = ["build"]


def build(
    input_shape: tuple[int, ...], num_outputs: int, *, depth: Count = 10, options: ResidualOptions = ResidualOptions()
) -> list[Blueprint]:
    """Blueprints of ``(depth - 4) / 2`` residual blocks in three groups of 16, 32 and 64 channels times ``width``.

    Args:
        depth: layers with weights along the longest path, as the source counts them: 4 and a multiple of 6.
        options: see :class:`ResidualOptions`; the first convolution has 16 channels whatever the width.

    Raises:
        ConfigError: the depth is no such number, the input is no image, or an option is out of its range.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ConfigError(
            f"the depth does not divide into three groups of pairs (given: model.depth = {depth}, expected: 10, 16, "
            "22, 28, ...). Change it."
        )
    count = (depth - 4) // 6
    groups = [(channels, count) for channels in (16, 32, 64)]
    return residual_net("wide_resnet", 16, groups, input_shape, num_outputs, options, pre_activation=True)
