"""Where ``load_blocks`` stood when the pages first showed it, so that scripts written then still run."""

from pipeline.records.weights import latest_weights, load_blocks

__all__ = ["latest_weights", "load_blocks"]
