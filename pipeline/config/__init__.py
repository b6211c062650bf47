"""A run as the user wrote it: sections of a TOML file and ``section.key=value`` overrides. Imports no torch."""

from pipeline.config.chaos import ChaosConfig
from pipeline.config.gate import GateConfig
from pipeline.config.run_config import Config, LoadedConfig, load_config, of_every_dataset, section_options
from pipeline.config.sections import (
    MeasureConfig,
    NamedConfig,
    RestartConfig,
    RunConfig,
    ScheduleConfig,
    SnapshotConfig,
    TrainConfig,
    TransportConfig,
)

__all__ = [
    "ChaosConfig", "Config", "GateConfig", "LoadedConfig", "MeasureConfig", "NamedConfig", "RestartConfig",
    "RunConfig", "ScheduleConfig", "SnapshotConfig", "TrainConfig", "TransportConfig", "load_config",
    "of_every_dataset", "section_options",
]  # fmt: skip
