"""Imports torchvision's data sets, also from an installation whose compiled part does not fit torch.

A torchvision whose compiled part was built for another torch (a CUDA build beside a CPU torch, as package indexes mix
them) fails to import, although its data sets need no compiled part: it describes ``torchvision::nms`` to torch's
compiler before anything has declared that operator. Declared by hand, the import goes through.
"""

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any

import torch

from pipeline.errors import ConfigError, one_line

__all__ = ["torchvision_datasets"]


def torchvision_datasets() -> Any:
    """Import ``torchvision.datasets``.

    Raises:
        ConfigError: torchvision is missing, or broken in another way.
    """
    try:
        return _import()
    except (ImportError, RuntimeError) as error:
        reason = one_line(error)
        raise ConfigError(
            f"cannot import torchvision ({reason}). Install the one that belongs to torch {torch.__version__}, "
            "or choose a data set that needs no download: digits, signed_xor, image_folder."
        ) from None


def _import() -> ModuleType:
    before = set(sys.modules)
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    # The failed import leaves modules that are half executed; the second one must not find them.
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchvision":
            del sys.modules[name]
    _declare_operators()
    return importlib.import_module("torchvision.datasets")


@cache
def _declare_operators() -> Any:
    """Declare the two operators' schemas. A declaration lasts as long as the returned object, which is cached."""
    untyped: Any = torch.library.Library
    library = untyped("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
