"""The page in a browser: it complains of nothing, asks for nothing, and shows what it says at any width and light."""

import pytest
from tests.support import browser, report_runs

pytestmark = pytest.mark.skipif(browser.BROWSER is None, reason="chromium is not installed (Debian's package chromium)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra report)")

from workers.report.command import write_report  # noqa: E402

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
STROKES = "[...document.querySelectorAll('svg.plot .run path')].map(p => getComputedStyle(p).stroke)"
SIZES = """
[...document.querySelectorAll('svg.plot, svg.strip')].filter(s => s.checkVisibility()).map(s => {
    const box = s.getBoundingClientRect();
    return [box.width, box.height, box.right];
})
"""
TEXTS = """
[...document.querySelectorAll('svg.plot')].filter(s => s.checkVisibility()).flatMap(s =>
    [...s.querySelectorAll('text')].map(t => {
        const [a, b] = [t.getBoundingClientRect(), s.getBoundingClientRect()];
        return [a.height, a.left - b.left, b.right - a.right, b.bottom - a.bottom];
    }))
"""
STRIPS = """
[...document.querySelectorAll('.frame')].map(f =>
    [f.querySelector('svg'), f.querySelector('.strip-labels')].map(e => e.getBoundingClientRect().height))
"""
GATED = {"gate": 0.5, "drift": 0.1, "axes": [0.25, 0.5, 0.75]}
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture(scope="module")
def page():
    with browser.browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    one = report_runs.traced(report_runs.measured(report_runs.a_run(folder / "one", scores=GATED)))
    two = report_runs.a_run(folder / ("two" + "x" * 60), late=0.5)
    return write_report([one, two, report_runs.a_comparison(folder / "cmp")], folder / "out")


@pytest.fixture(autouse=True)
def _nothing_is_kept(page):
    page.complaints.clear()
    page.requests.clear()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_opens_from_disk_at_any_width_and_light(page, report, width, dark):
    page.open(report, width, dark=dark)
    assert page.ask("document.title") == "4 runs" and page.ask(OVERFLOW) == 0
    red = page.ask(BACKGROUND).removeprefix("rgb(").split(",")[0]
    assert (int(red) < 60) == dark
    sizes = page.ask(SIZES)
    assert len(sizes) > 30 and all(w > 40 and h > 20 and right <= width for w, h, right in sizes)
    strips = page.ask(STRIPS)
    assert len(strips) > 8 and all(drawn == labels for drawn, labels in strips)  # rows stand beside their labels
    texts = page.ask(TEXTS)
    assert len(texts) > 100 and all(h > 9 and min(left, right, below) > -1 for h, left, right, below in texts)
    assert page.complaints == []
    assert {request.partition(",")[0] for request in page.requests} <= {report.as_uri(), "data:image/png;base64"}


def test_colours_follow_the_light(page, report):
    page.open(report, 1280)
    light = page.ask(STROKES)
    page.open(report, 1280, dark=True)
    dark = page.ask(STROKES)
    assert len(light) == len(dark) > 4 and not set(light) & set(dark) and "none" not in {*light, *dark}


def test_a_run_whose_box_is_not_ticked_is_left_out_of_every_plot(page, report):
    page.open(report, 1280)
    shown = "[...document.querySelectorAll('svg.plot .run-1, .of-run-1')].filter(e => e.getClientRects().length).length"
    before = page.ask(shown)
    page.ask("document.querySelector('#show-1').click()")
    assert before > 4 and page.ask(shown) == 0
    page.ask("document.querySelector('#show-1').click()")
    assert page.ask(shown) == before


def test_in_print_it_is_light_and_fits_the_paper(page, report):
    page.open(report, 700, dark=True, media="print")
    assert page.ask(BACKGROUND) == "rgb(255, 255, 255)" and page.ask(OVERFLOW) == 0
    assert not page.ask("document.querySelector('nav').checkVisibility()")


def test_a_page_that_is_wrong_would_be_told_of(page, tmp_path):
    """The checks above can fail."""
    bad = tmp_path / "bad.html"
    script = "<script>console.error('no'); oh()</script>"
    bad.write_text(f"<img src='file:///none.png'>{script}<p style='width: 900px'>.</p>")
    page.open(bad, 400)
    assert page.ask(OVERFLOW) > 0 and sum("oh is not defined" in text for text in page.complaints) == 1
    assert any('"no"' in text for text in page.complaints) and "file:///none.png" in page.requests
