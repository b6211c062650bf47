"""One page of everything: sections in their order, put into the template; needs matplotlib and jinja2."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
import matplotlib
from matplotlib.colors import to_hex

from workers.report.charts import styled
from workers.report.comparisons import table_section
from workers.report.gating import gating_sections
from workers.report.inks import DASHES, NUM_RUN_INKS
from workers.report.learning import learning_sections
from workers.report.measurements import measurement_sections
from workers.report.parts import Section
from workers.report.running import running_sections
from workers.report.runs import ReportRun
from workers.report.sources import Sources
from workers.report.tables import config_section, environment_section, errors_of, summary

__all__ = ["GENERATOR", "page"]

GENERATOR = "onward --report"
"""By which a page is known to be one of ours, and may be replaced by a newer one."""
_HERE = Path(__file__).resolve().parent


def page(sources: Sources) -> str:
    """The whole file.

    Raises:
        ConfigError: a comparison or a sweep cannot be read.
    """
    runs = sources.runs
    with styled():
        tables = [
            table_section(file, name, given, number) for number, (file, name, given) in enumerate(sources.tables)
        ]
        sections = [
            *tables, *learning_sections(runs), *gating_sections(runs), *running_sections(runs),
            *measurement_sections(runs), config_section(runs), environment_section(runs),
        ]  # fmt: skip
    overview, said = summary(runs)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=_title(runs), subtitle=_subtitle(sources), generator=GENERATOR, num_runs=len(runs), dashes=DASHES,
        css=(_HERE / "page.css").read_text(encoding="utf8"), runs=overview, said=said, errors=errors_of(runs),
        sections=_shown(sections), num_run_inks=NUM_RUN_INKS, blocks_light=_shades(runs, 0.0, 0.82),
        blocks_dark=_shades(runs, 0.25, 0.97),
    )  # fmt: skip


def _shown(sections: Sequence[Section]) -> list[Section]:
    return [section for section in sections if not section.is_empty]


def _title(runs: Sequence[ReportRun]) -> str:
    return f"Run {runs[0].name}" if len(runs) == 1 else f"{len(runs)} runs"


def _subtitle(sources: Sources) -> str:
    left = sources.num_left_out
    return f"{left} more are not shown: a page has room for {len(sources.runs)}." if left else ""


def _shades(runs: Sequence[ReportRun], low: float, high: float) -> list[str]:
    """A colour for each block, or stage, from the lowest to the highest; dark enough or light enough to be read."""
    blocks = [run.last_block + 1 for run in runs if run.last_block is not None]
    count = max([1, *blocks, *(len(run.stages) for run in runs)])
    shades = matplotlib.colormaps["viridis"]
    return [to_hex(shades(low + (high - low) * k / max(count - 1, 1))) for k in range(count)]
