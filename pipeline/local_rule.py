"""Where ``LocalRule`` stood when the pages first showed it: rules written then still load. Now ``pipeline.LocalRule``."""

from pipeline.learning.local_rule import LocalRule, Output

__all__ = ["LocalRule", "Output"]
