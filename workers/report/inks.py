"""Colours that a page may change: a drawing has a stand-in for each, which its SVG refers to by a variable of CSS.

So one drawing is right on a light page, on a dark one and in print.
"""

import re
from collections.abc import Sequence

from workers.report.stages import ACTIVITIES, KINDS

__all__ = ["DASHES", "NUM_RUN_INKS", "block_ink", "by_variables", "ink", "run_ink"]

_NAMES = ("fg", "muted", "grid", *(f"activity-{name}" for name in ACTIVITIES), *(f"kind-{name}" for name in KINDS))
NUM_RUN_INKS = 7
"""Colours of runs; more runs differ by their dashes as well."""
DASHES: Sequence[tuple[float, ...]] = ((), (5.0, 2.0), (1.5, 1.5))
_FIRST_RUN, _FIRST_BLOCK = 0x100, 0x1000


def ink(name: str) -> str:
    """Stand-in for the variable ``--<name>``."""
    return _stand_in(_NAMES.index(name))


def run_ink(place: int) -> str:
    """Stand-in for the colour of a run, ``--run-0`` and up."""
    return _stand_in(_FIRST_RUN + place % NUM_RUN_INKS)


def block_ink(block: int) -> str:
    """Stand-in for the colour of a block, ``--block-0`` and up."""
    return _stand_in(_FIRST_BLOCK + min(block, 0xEFFF))


def by_variables(svg: str) -> str:
    """``svg`` with the variables in place of their stand-ins."""
    return re.sub(r"#fe([0-9a-f]{4})\b", lambda found: f"var(--{_variable(int(found[1], 16))})", svg)


def _stand_in(number: int) -> str:
    return f"#fe{number:04x}"


def _variable(number: int) -> str:
    if number >= _FIRST_BLOCK:
        return f"block-{number - _FIRST_BLOCK}"
    return f"run-{number - _FIRST_RUN}" if number >= _FIRST_RUN else _NAMES[number]
