"""Measurements, run from the root as ``python -m benchmarks.<name>``."""
