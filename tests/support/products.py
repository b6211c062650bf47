"""Which cases of a product of parameters every run of the suite takes; the others are marked ``full``.

``make test-all`` takes them all.
"""

from itertools import product

import pytest

__all__ = ["DIAGONAL", "PLACES", "rare", "square"]

PLACES = [
    (2, "shared_memory"), (2, "inline"), (3, "inline"), (2, "process_group"), ("blocks", "process_group"),
    ("blocks", "shared_memory"), (3, "shared_memory"), ("blocks", "inline"), (3, "process_group"),
]  # fmt: skip
"""Every number of stages of a net of at least four blocks, over every transport."""
DIAGONAL = [(2, "shared_memory"), (3, "process_group"), ("blocks", "inline")]
"""Of these, each number of stages and each transport once."""


def square(*parameters):
    """Every combination; those outside a Latin square are ``full``.

    For each choice of the other parameters one value of the last is in the square, another one for the next choice:
    with three transports, each rule on each number of stages is over one of them, and each rule over each of them.
    """
    cases = []
    for chosen in product(*map(enumerate, parameters)):
        is_usual = sum(index for index, _ in chosen) % len(parameters[-1]) == 0
        cases.append(_case(*(value for _, value in chosen), full=not is_usual))
    return cases


def rare(values, but):
    """``values``, of which all are ``full`` but some."""
    return [_case(value, full=value not in but) for value in values]


def _case(*values, full):
    return pytest.param(*values, marks=pytest.mark.full if full else ())
