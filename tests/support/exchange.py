"""The exchange of a rule that settles, for all blocks of a network in one process."""

from pipeline.engine.settling import Settling

__all__ = ["run_forward", "settle"]


def run_forward(rules, x, y):
    """A batch through all blocks; their contexts."""
    contexts = []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    return contexts


def settle(rules, contexts):
    """All rounds, contexts changed in place."""
    exchange = Settling(dict(enumerate(rules)), dict(enumerate(contexts)))
    for index in range(exchange.num_rounds):
        exchange.round(index, (), ())
