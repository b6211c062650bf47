"""Names of the wire formats, for the config, which imports no torch."""

from typing import Literal

__all__ = ["Wire"]

Wire = Literal["same", "bfloat16", "float16", "int8"]
"""See :mod:`pipeline.numerics.wire_format`."""
