"""The page as text: what it says, and that what a folder says is never more than text."""

import json
from html.parser import HTMLParser

import pytest
from tests.support import report_runs

from workers.report.embed import Mark
from workers.report.sources import Sources, read_sources
from workers.report.stages import ACTIVITIES, KINDS, WORK

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra report)")

from workers.report import running  # noqa: E402
from workers.report.charts import Line, lines, styled  # noqa: E402
from workers.report.page import page  # noqa: E402

EVIL = "<script>alert(1)</script>{{ 1234 * 10001 }}$\\frac{1$\"'&"


class Reader(HTMLParser):
    """Elements, the texts between them, the titles of sections."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.links, self._path = [], [], [], [""]
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        self._path.append(tag)

    def handle_data(self, data):
        if self._path[-1] != "style" and data.strip():
            self.texts.append(data.strip())


def read(*folders):
    text = page(read_sources(folders))
    return text, Reader(text)


def titles(found):
    return [title for title in SECTIONS if title in found.texts]


SECTIONS = (
    "Comparison: cmp", "Learning: the output block", "Learning: every block", "Gate by block", "Drift by block",
    "Gate by axis", "Time by stage",
    "Utilisation of the pipeline", "Memory by stage", "Queue fill", "Staleness", "Angles to backpropagation",
    "Readouts of every block", "Updates", "Depth of credit", "Decision maps", "Representations by t-SNE", "Config",
    "Environment and command",
)  # fmt: skip


GATED = {"gate": 0.5, "drift": 0.1, "axes": [0.25, 0.5, 0.75]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of a run with all that there can be of one."""
    folder = report_runs.a_run(tmp_path_factory.mktemp("runs") / "all", scores={"credit": 0.5, **GATED})
    return read(report_runs.traced(report_runs.measured(folder)))


def test_a_run_that_was_measured_has_every_section(whole):
    _, found = whole
    assert titles(found) == list(SECTIONS[1:])
    assert found.elements.count("image") == 8  # maps: two epochs of four blocks
    assert "blocks per sample" in found.texts and "all: a few forward passes in its middle" in found.texts


def test_one_that_was_not_has_those_of_its_record(tmp_path):
    text, found = read(report_runs.a_run(tmp_path / "plain", epochs=1))
    assert titles(found) == [*SECTIONS[1:3], *SECTIONS[6:11], *SECTIONS[-2:]] and "No update came late" in text


WAITING = "messages waiting"


def panels_of(found, run):
    return [title.removeprefix(f"{run}: ") for title in found.texts if title.startswith(f"{run}: ")]


def test_gates_are_drawn_of_gated_runs_alone(whole, tmp_path):
    assert panels_of(whole[1], "all")[:5] == [
        "part of a step", "drift of the input", "least of the axes", "median of the axes", "most of the axes",
    ]  # fmt: skip
    wave = report_runs.a_run(tmp_path / "wave", scores={"gate": 0.0})  # the staged wave measures nothing
    still = report_runs.a_run(tmp_path / "still", scores={"gate": 1.0, "drift": 0.0})
    _, found = read(report_runs.a_run(tmp_path / "plain"), wave, still)
    assert [title for title in titles(found) if title in SECTIONS[3:6]] == ["Gate by block"]
    assert [panels_of(found, run)[0] for run in ("wave", "still", "plain")] == ["part of a step"] * 2 + [WAITING]
    assert panels_of(found, "wave")[1:] == panels_of(found, "still")[1:] == [WAITING]


def drift_panel(folder, tau):
    """The drawing of a run whose drift falls from 1 to a hundredth."""
    config = {"gate": {"tau": tau}, "schedule": {"mode": "gated"}}
    folder = report_runs.a_run(folder, config=config, scores={"gate": 0.5, "drift": 0.01})
    lines = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    for row in lines:
        for block in row.get("blocks", []):
            block["drift"] = 10.0 ** -row["epoch"]
    (folder / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf8")
    return read(folder)[0].split("drift of the input")[1].split("</svg>")[0]


def test_drift_has_a_logarithmic_axis_and_tau_across_where_that_is_near(tmp_path):
    near, far = (drift_panel(tmp_path / name, tau) for name, tau in (("near", 0.5), ("far", 1e30)))
    ticks = [">0.01<", ">0.1<", ">1<"]
    assert all(tick in near and tick in far for tick in ticks)
    assert "stroke-dasharray" in near and "stroke-dasharray" not in far


def test_nothing_in_a_folder_is_more_than_text(tmp_path):
    folder = tmp_path / EVIL.replace("/", "")
    config = {"rule": {"name": EVIL, EVIL: 1}, "dataset": {"name": EVIL}}
    header = {"command": [EVIL], "cpu": EVIL, "versions": {EVIL: EVIL}, "config": config}
    report_runs.a_run(folder, epochs=1, result={"status": EVIL, "error": EVIL, "test": {EVIL: 1.0}}, header=header,
                      scores={"test_metrics": {EVIL: 1.0}})  # fmt: skip
    (folder / "config.toml").unlink()
    text, found = read(report_runs.measured(folder))
    assert "script" not in found.elements and "<script" not in text
    assert sum(EVIL in one for one in found.texts) > 8 and "12341234" not in text
    assert {"html", "style", "svg", "table"} <= set(found.elements)


def test_it_asks_for_nothing_and_may_run_nothing(whole):
    text, found = whole
    assert {link.partition(":")[0] if ":" in link else link[0] for link in found.links} == {"data", "#"}
    assert "default-src 'none'" in text and "@import" not in text and "url(http" not in text
    identifiers = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(identifiers) == len(set(identifiers)) > 10


def test_a_run_that_did_not_end_is_shown_with_what_is_known(tmp_path):
    failed = report_runs.a_run(tmp_path / "failed", result={"status": "failed", "error": "no luck"})
    begun = report_runs.a_run(tmp_path / "begun", epochs=0, result=[])
    text, found = read(failed, begun)
    assert "failed: no luck" in found.texts and "unfinished" in found.texts and '<b>begun</b> unfinished' in text
    _, alone = read(begun)
    assert titles(alone) == ["Config", "Environment and command"]


def unseen(folder, config=None, rate=1234.0):
    """A run with a result and without an epoch, so that there is nothing to draw of it but its stages."""
    result = {**report_runs.result_table(3), "train_samples_per_s": rate}
    return report_runs.a_run(folder, epochs=0, config=config, result=result)


def test_what_differs_stands_out_and_what_is_the_same_is_said_once(tmp_path):
    rates = {"one": 0.1, "two": 0.1, "three": 0.3}
    text, found = read(*(unseen(tmp_path / name, {"optimizer": {"lr": rate}}) for name, rate in rates.items()))
    words = "status completed, mode parallel, rule pred, model mlp, data set digits, stages x threads 2 x 1"
    assert f"All: {words}." in text
    assert 'class="differs ">0.3</td>' in text and 'class="">0.1</td>' in text and "optimizer.lr" in found.texts


def test_the_best_is_marked_only_among_runs_of_one_data_set(tmp_path):
    one, two = unseen(tmp_path / "one"), unseen(tmp_path / "two", rate=2000.0)
    text, _ = read(one, two)
    assert text.count('class="number best ">') == 1 and 'class="number best ">2 000</td>' in text
    other = unseen(tmp_path / "other", {"dataset": {"name": "other"}}, rate=2000.0)
    assert "Bold green" in text
    text = read(one, other)[0]
    assert "number best" not in text and "Bold green" not in text and "whose box is not ticked" in text


def test_a_comparison_has_its_table(tmp_path):
    text, found = read(report_runs.a_comparison(tmp_path / "cmp"))
    assert titles(found)[0] == "Comparison: cmp" and "75.00 +- 10.00 %" in found.texts
    assert "parallel against backprop: 2 times as fast (1.5 to 2.5), 1.00 points more accurate" in found.texts
    assert "Failed: backprop, seed 1: no luck" in found.texts


def test_a_sweep_has_its_table_and_its_warning(tmp_path):
    text, found = read(report_runs.a_sweep(tmp_path / "grid"))
    assert "Sweep: grid" in found.texts and "best by test accuracy: optimizer.lr=0.3" in found.texts
    (warning,) = (one for one in found.texts if one.startswith("WARNING: THE BEST CELL"))
    assert warning.endswith("Failed: optimizer.lr=0.1, seed 1: no luck") and "30.00 +- 10.00 %" in found.texts
    assert '<td class="best ">0.3</td>' in text and "optimizer.lr=0.1/seed-0" in found.texts


def test_many_runs_are_told_apart_by_colours_and_dashes(tmp_path):
    folders = [report_runs.a_run(tmp_path / f"run{n:02}", epochs=0) for n in range(20)]
    text, found = read(*folders)
    swatches = text.split('<td class="run-name">')[1:21]
    drawn = {(s.split("--run-")[1][0], "stroke-dasharray: 5.0 2.0" in s, "1.5 1.5" in s) for s in swatches}
    assert len(drawn) == 20 and "20 runs" in found.texts
    assert page(Sources(read_sources(folders[:2]).runs, (), 7)).count("7 more are not shown") == 1


def test_a_single_epoch_has_no_fractions():
    with styled():
        found = Reader(lines([Line({1: 500.0}, "#000000", (), Mark("run", "one"))], "of one epoch"))
    assert "1" in found.texts and not {"0.96", "0.98", "1.00", "1.02", "1.04"} & set(found.texts)


def test_late_updates_are_drawn(tmp_path):
    text, found = read(unseen(tmp_path / "one"), report_runs.a_run(tmp_path / "two", epochs=1, late=1.5))
    assert "two: updates late" in found.texts and "None was late in: one." in text


def test_every_activity_and_kind_of_memory_has_its_place():
    assert set(running._TOLD) == set(ACTIVITIES) and set(running._KINDS) == set(KINDS) and set(WORK) < set(ACTIVITIES)
