"""Where ``load_blocks`` stood when the pages first showed it: scripts of then still run. Now ``pipeline.load_blocks``."""

from pipeline.records.weights import latest_weights, load_blocks

__all__ = ["latest_weights", "load_blocks"]
