"""Published tables and figures as data, one file for each source.

Published figures are those of the sources; bands say what is accepted of a run here (``rules.md`` 5), where data,
epochs or machine differ from the source's. Figures that were not verified against the source's text are marked in
the table's note.
"""

from benchmarks.accuracy.cell import PublishedTable
from benchmarks.published import (
    breloff, choromanska, frenkel, jaderberg, lee, lra, lra_units, mertens, nokland2016, nokland_eidnes, whittington,
)  # fmt: skip

__all__ = ["TABLES"]

_SOURCES = (
    mertens, nokland2016, breloff, frenkel, lee, lra, lra_units, nokland_eidnes, jaderberg, whittington, choromanska,
)

TABLES: dict[str, PublishedTable] = {table.name: table for source in _SOURCES for table in source.TABLES}
"""By name, in the order in which they are run."""
