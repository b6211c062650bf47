"""Makes the tables of the READMEs and of pages in docs/, and the plots, from the files of results.

    python -m benchmarks.report            # writes the tables between their markers, and draws the plots
    python -m benchmarks.report --check    # exit status 1 where a table is not what its file says

No figure is typed by hand, and a test runs the check.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import fill

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md", ROOT / "docs" / "results.md",
         ROOT / "docs" / "scaling.md", ROOT / "docs" / "language.md", ROOT / "docs" / "gated.md")


def remade(page: Path, results: Path) -> str:
    """The text of a page with its tables as ``results`` has them.

    Raises:
        ValueError: a marker names no table.
    """
    link = Path(os.path.relpath(results, page.parent)).as_posix()
    return fill(page.read_text(encoding="utf8"), results, link)


def stale(pages: Sequence[Path], results: Path) -> list[Path]:
    """Pages on which a table differs from its file."""
    return [page for page in pages if remade(page, results) != page.read_text(encoding="utf8")]


def draw_plots(results: Path) -> bool:
    """Draw the plots; where matplotlib is missing, say so and return False."""
    try:
        from benchmarks import curves, plots
    except ImportError as error:
        print(f"no plots are drawn ({error}). Install matplotlib: pip install 'onward-pipeline[plots]'.")
        return False
    for path in [*plots.draw(results), *curves.draw(results)]:
        print(f"drawn: {path}")
    return True


def main(arguments: Sequence[str]) -> int:
    """Writes or checks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where a table differs")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--page", type=Path, action="append", metavar="FILE.md", help="in place of all pages")
    options = parser.parse_args(arguments)
    if options.page is None and options.results.resolve() != RESULTS:
        parser.error(  # every table whose file is not there would become empty
            f"the pages of this project are about the files in benchmarks/results (given: --results {options.results} "
            "without --page). Name your pages with --page, or put your files there."
        )
    pages = options.page or PAGES
    if options.check:
        found = stale(pages, options.results)
        for page in found:
            print(f"{page}: a table differs from its results. Run python -m benchmarks.report.")
        return 1 if found else 0
    draw_plots(options.results)  # first: pages show what has been drawn
    for page in stale(pages, options.results):
        page.write_text(remade(page, options.results), encoding="utf8")
        print(f"written: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
