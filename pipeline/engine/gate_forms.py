"""The gate of a stage, by the form that a config names."""

from collections.abc import Mapping

from pipeline.engine.gates import AxisGate, BlockGate, Gate, MeasuredGate, TriggeredGate, WaveGate
from pipeline.engine.steady import SteadyGate
from pipeline.learning.rule import LearningRule
from pipeline.resolve import RunSpec

__all__ = ["gate_of"]

_MEASURED: dict[str, type[MeasuredGate]] = {"G1": AxisGate, "G1m": SteadyGate, "G2": BlockGate, "G4": TriggeredGate}


def gate_of(resolved: RunSpec, rules: Mapping[int, LearningRule]) -> Gate | None:
    """The gate of a stage; None in a mode without one. Args: resolved, the run; rules, of the hosted blocks."""
    if resolved.wave is not None:
        return WaveGate(resolved.wave)
    if resolved.probe is None:
        return None
    return _MEASURED[resolved.config.gate.form](resolved.config.gate, rules, resolved.batching.num_steps)
