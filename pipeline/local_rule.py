"""Where ``LocalRule`` stood when the pages first showed it, so that rules written then still load."""

from pipeline.learning.local_rule import LocalRule, Output

__all__ = ["LocalRule", "Output"]
