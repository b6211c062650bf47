"""What is computed, and when: blocks, learning rules, schedules, records. Starts no process.

A *schedule* makes a *plan* for each epoch; a plan's *actions* are what a *program* walks, asking its driver by
*requests*. A *block* is the smallest unit that a *rule* trains; a *stage* is contiguous blocks hosted together, which
decides where they run and never what they learn; a *worker* is the process of one stage; the *coordinator* holds the
schedule and the record.

To read it in order: ``learning/rule`` (the contract of a learning rule), ``engine/stage`` (what is done with one),
``schedules/actions`` and ``engine/program`` (in which order), ``schedules/schedule`` (which blocks, in which epoch),
``resolve`` (how a config becomes all this).

The names below are imported when they are first asked for: importing this package leaves torch out.
"""

from typing import TYPE_CHECKING

from pipeline.lazy import lazy_names

if TYPE_CHECKING:
    from pipeline.config import Config, load_config
    from pipeline.data.dataset import Dataset, DataSpec
    from pipeline.errors import ConfigError
    from pipeline.learning.local_rule import LocalRule, Output
    from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
    from pipeline.network.block import Block
    from pipeline.records.weights import latest_weights, load_blocks

__all__ = [
    "Block", "BlockSpec", "Config", "ConfigError", "DataSpec", "Dataset", "Learned", "LearningRule", "LocalRule",
    "Output", "Topology", "latest_weights", "load_blocks", "load_config",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, {
    "pipeline.network.block": ("Block",),
    "pipeline.config": ("Config", "load_config"),
    "pipeline.data.dataset": ("DataSpec", "Dataset"),
    "pipeline.errors": ("ConfigError",),
    "pipeline.learning.local_rule": ("LocalRule", "Output"),
    "pipeline.learning.rule": ("BlockSpec", "Learned", "LearningRule", "Topology"),
    "pipeline.records.weights": ("latest_weights", "load_blocks"),
})
