"""Published tables and figures as data, one file for each source.

Published figures are those of the sources; bands say what is accepted of a run here, where data,
epochs or machine differ from the source's. Figures that were not verified against the source's text are marked in
the table's note.
"""

from benchmarks.accuracy.cell import PublishedTable
from benchmarks.published import (
    breloff,
    choromanska,
    frenkel,
    gated,
    gated_rest,
    jaderberg,
    lee,
    liao,
    lillicrap,
    lm,
    lra,
    lra_figures,
    lra_pretraining,
    lra_units,
    mertens,
    nokland2016,
    nokland_eidnes,
    nokland_eidnes_thin,
    nokland_eidnes_wide,
    projections,
    recurrent,
    scellier,
    whittington,
)  # fmt: skip

__all__ = ["TABLES"]

_SOURCES = (
    mertens, nokland2016, breloff, projections, frenkel, lillicrap, liao, lee, lra, lra_figures, lra_units,
    lra_pretraining, nokland_eidnes, nokland_eidnes_thin, nokland_eidnes_wide, jaderberg, whittington, choromanska,
    scellier, recurrent, lm, gated, gated_rest,
)

TABLES: dict[str, PublishedTable] = {table.name: table for source in _SOURCES for table in source.TABLES}
"""By name, in the order in which they are run."""
