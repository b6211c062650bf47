"""How a run has built and evaluated its network, for whoever does so again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config
from pipeline.records.network_facts import NetworkFacts

__all__ = ["FORMAT", "OWN", "Recipe"]

FORMAT = "onward network 1"
"""What a file of :meth:`TrainedNetwork.save` says it is."""
OWN = "rules"
"""Before the names of tensors that belong to the rule of a block, ``rules/0/head.linear.weight``."""


@dataclass(frozen=True)
class Recipe:
    """How a run has built and evaluated its network."""

    config: Config
    facts: NetworkFacts
    threads: int
    """Of each stage: products round differently on one and on two."""
    result: Mapping[str, Any]
    """Its ``result.json``."""
    has_readouts: bool = True
    """The blocks' own decoders are there."""
