"""Tables between markers, the check that they are what the files say, and the plots."""

import json
import sys

import pytest

from benchmarks import report, tables
from benchmarks.harness import environment, spread


def transport(gloo=40e-6):
    cells = {arm: {"4096": {"latency_s": spread([latency, 1.5 * latency]), "bytes_per_s": spread([1e9])}}
             for arm, latency in (("shared_memory", 10e-6), ("gloo", gloo))}  # fmt: skip
    ratios = {"gloo": {"4096": {"latency": spread([gloo / 10e-6]), "bandwidth": spread([1.0])}}}
    over = {"process_group": {"4096": {"latency": spread([0.5, 0.7]), "bandwidth": spread([2.0])}}}
    return {"sizes": [4096], "arms": cells, "ratios": ratios, "over_gloo": over,
            "environment": environment("benchmarks.transport", ["--quick"], threads=1)}  # fmt: skip


def stage(index, held):
    parts = dict.fromkeys(("parameter_bytes", "head_bytes", "optimizer_bytes", "queue_bytes", "other_bytes"), 2**20)
    return {"stage": index, "blocks": 4, **parts, "held_bytes": held, "peak_bytes": spread([5 * 2**20 + held])}


def memory():
    return {"networks": [
        {"blocks": 8, "arm": "onward-2", "stages": [stage(0, 1024), stage(1, 2048)]},
        {"blocks": 8, "arm": "backprop", "stages": [stage(0, 4096)]},
        {"blocks": 64, "arm": "backprop", "stages": [stage(0, 8192)]},
    ]}  # fmt: skip


def sequential():
    times = {"4": spread([1.0]), "8": spread([2.0, 2.2])}
    arm = {"stages": 2, "cache": "off", "seconds": times, "growth": {"8/4": spread([2.1])}}
    return {"blocks": [4, 8], "arms": [arm]}


def throughput():
    arms = {
        "onward-2": {"samples_per_s": 2000.0, "all": [1900.0, 2100.0], "status": "ok"},
        "backprop": {"samples_per_s": 1000.0, "all": [1000.0, None], "status": "ok"},
        "torch-gpipe-2": {"samples_per_s": 500.0, "all": [500.0, 500.0], "status": "ok"},
        "torch-gpipe": {"samples_per_s": 500.0, "all": [500.0, 500.0], "status": "ok", "best": "torch-gpipe-2"},
        "torch-1f1b": {"samples_per_s": None, "all": [None, None], "status": "hang", "note": "no end | in\n60 s"},
    }
    return {"preset": "small", "arms": arms, "ratios": {"torch_pipelining": None, "backprop": 2.0, "ddp": 1.5},
            "ratios_all": {"backprop": spread([1.9, 2.1]), "torch-1f1b": None}, "matmul_fraction": 0.815,
            "environment": environment("benchmarks.throughput", [], threads=1)}  # fmt: skip


def links():
    entries = [("unlimited", 100.0, 50.0), ("1 Gbit/s", 99.0, 25.0), ("10 Mbit/s", 98.0, None)]
    return {"preset": "small", "links": {
        rate: {"onward": {"samples_per_s": ours, "all": [ours], "status": "ok"},
               "ddp": {"samples_per_s": theirs, "all": [theirs], "status": "hang" if theirs is None else "ok"}}
        for rate, ours, theirs in entries
    }}  # fmt: skip


def roofline():
    kinds = {"products": spread([0.02]), "other": spread([0.004, 0.006])}
    return {"rule": "pred", "step_s": {"local": kinds, "backprop": kinds}, "arithmetic": spread([1.3]),
            "products_only": spread([1.2])}  # fmt: skip


OVERHEAD = {"parts": {"forward": 12.5, "small": {"step": spread([3.0, 5.0])}}, "ratios": {"plain / ours": 1.8}}


@pytest.fixture
def results(tmp_path):
    found = {"transport": transport(), "memory": memory(), "sequential": sequential(), "overhead": OVERHEAD,
             "throughput-small": throughput(), "links-small": links(), "roofline-small": roofline()}  # fmt: skip
    folder = tmp_path / "results"
    folder.mkdir()
    for name, table in found.items():
        (folder / f"{name}.json").write_text(json.dumps(table))
    return folder


@pytest.fixture
def no_plots(monkeypatch):
    """Drawing takes a second."""
    monkeypatch.setattr(report, "draw_plots", lambda results: False)


EXPECTED = {
    "transport-latency": ["|  | 4.0 KiB |", "| --- | ---: |", "| shared_memory | 12.5 us (10.0 us to 15.0 us) |",
                          "| gloo | 50.0 us (40.0 us to 60.0 us) |"],
    "transport-bandwidth": ["|  | 4.0 KiB |", "| --- | ---: |", "| shared_memory | 1.00 GB/s |",
                            "| gloo | 1.00 GB/s |"],
    "transport-ratios": ["|  | 4.0 KiB |", "| --- | ---: |", "| latency, gloo | 4.00 |", "| bandwidth, gloo | 1.00 |"],
    "transport-over-gloo": ["|  | 4.0 KiB |", "| --- | ---: |", "| latency, process_group | 0.600 (0.500 to 0.700) |",
                            "| bandwidth, process_group | 2.00 |"],
    "memory-held": ["| held by one stage | 8 blocks | 64 blocks |", "| --- | ---: | ---: |",
                    "| onward-2 | 2.0 KiB | - |", "| backprop | 4.0 KiB | 8.0 KiB |"],
    "sequential": ["| stages | cache | 4 blocks | 8 blocks | t(8)/t(4) |", "| --- | --- | ---: | ---: | ---: |",
                   "| 2 | off | 1.00 s | 2.10 s (2.00 s to 2.20 s) | 2.10 |"],
    "overhead": ["|  | median |", "| --- | ---: |", "| forward | 12.5 us |",
                 "| small, step | 4.00 (3.00 to 5.00) us |", "| plain / ours | 1.80 |"],
    "throughput-small": ["| arm | samples per second | onward-2 against it |", "| --- | ---: | ---: |",
                         "| onward-2 | 2 000 (1 900 to 2 100) | - |", "| backprop | 1 000 | 2.00 (1.90 to 2.10) |",
                         "| torch-gpipe-2 | 500 | - |", "| torch-1f1b | hang: no end / in 60 s | - |"],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_tables_are_made_of_their_files_alone(name, results):
    assert tables.render(name, results).splitlines() == EXPECTED[name]


def test_the_largest_stage_stands_for_its_run(results):
    rows = tables.render("memory", results).splitlines()
    assert rows[2] == ("| 8 | onward-2 | 2 | 1.0 MiB | 1.0 MiB | 1.0 MiB | 2.0 KiB | 1.0 MiB | 1.0 MiB | 5.0 MiB "
                       "| 10.0 MiB |")  # fmt: skip


def test_presets_stand_side_by_side(results):
    row = tables.render("throughput", results).splitlines()[2]
    assert row == "| small (hung: torch-1f1b) | - | 2.00 (1.90 to 2.10) | - | 82 % |"


def test_the_environment_is_spelled_out(results):
    text = tables.render("transport-environment", results)
    assert "torch 2" in text and "1 compute thread per process" in text
    assert text.endswith("Command: `python -m benchmarks.transport --quick`")


def test_instructions_that_were_kept_from_torch_are_told(results):
    file = results / "throughput-small.json"
    found = json.loads(file.read_text())
    found["environment"] |= {"devices": [], "instructions": "AVX2", "limits": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
    file.write_text(json.dumps(found))
    assert " with AVX2 at most (ONEDNN_MAX_CPU_ISA=AVX2); " in tables.render("throughput-small-environment", results)
    assert "| small, AVX2 at most (hung: torch-1f1b) |" in tables.render("throughput", results)
    del found["environment"]["instructions"], found["environment"]["limits"]
    file.write_text(json.dumps(found))
    assert "AVX2" not in tables.render("throughput-small-environment", results)


def test_a_table_without_a_file_is_empty_and_one_without_a_name_an_error(tmp_path):
    assert tables.render("memory", tmp_path) == tables.render("throughput", tmp_path) == ""
    with pytest.raises(ValueError, match=r"no table of that name \(given: memroy, expected: throughput, .*mnist"):
        tables.render("memroy", tmp_path)


def test_only_what_stands_between_markers_is_written(results, tmp_path, no_plots):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: sequential -->\n| typed | 7 |\n<!-- end -->\nafter <!-- end -->\n")
    arguments = ["--page", str(page), "--results", str(results)]
    assert report.main([*arguments, "--check"]) == 1
    assert report.main(arguments) == 0
    lines = page.read_text().splitlines()
    assert lines == ["before", "<!-- table: sequential -->", *EXPECTED["sequential"], "<!-- end -->",
                     "after <!-- end -->"]  # fmt: skip
    assert report.main([*arguments, "--check"]) == 0


def test_other_results_are_for_other_pages(results, no_plots, capsys):
    """Tables of the project's own pages whose files are not among them would be lost."""
    with pytest.raises(SystemExit) as ended:
        report.main(["--results", str(results)])
    assert ended.value.code == 2 and "Name your pages with --page, or put your files there." in capsys.readouterr().err


def test_a_retyped_figure_is_found(results, tmp_path, no_plots, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: transport-latency -->\n<!-- end -->\n")
    arguments = ["--page", str(page), "--results", str(results)]
    report.main(arguments)
    page.write_text(page.read_text().replace("12.5 us", "12.4 us"))
    assert report.main([*arguments, "--check"]) == 1
    assert f"{page}: a table differs from its results" in capsys.readouterr().out
    report.main(arguments)
    (results / "transport.json").write_text(json.dumps(transport(gloo=50e-6)))
    assert report.main([*arguments, "--check"]) == 1


def test_a_roofline_has_its_kinds_and_what_follows(results):
    said = tables.render("roofline-small", results)
    assert "| products | 20.0 | 20.0 |" in said and "| other | 5.0 (4.0 to 6.0) |" in said and "| pred |" in said
    assert said.endswith("Backprop takes 1.30 times as long as pred; its products 1.20.")


def test_plots_are_small_the_same_every_time_and_shown(results, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    page = tmp_path / "page.md"
    page.write_text("<!-- plot: memory -->\n<!-- end -->\n")
    arguments = ["--page", str(page), "--results", str(results)]
    assert report.main(arguments) == 0
    drawn = {path.name: path.read_bytes() for path in (results / "plots").iterdir()}
    assert sorted(drawn) == [
        "links-small.svg", "memory.svg", "overhead.svg", "sequential.svg", "throughput-small.svg", "transport.svg",
    ]  # fmt: skip
    assert all(len(data) < 40_000 for data in drawn.values())
    assert b"10 Mbit/s" in drawn["links-small.svg"] and b"ddp" in drawn["links-small.svg"]
    assert b"onward-2: 2.00 times as fast" in drawn["throughput-small.svg"]
    assert b"64 blocks, backprop" in drawn["memory.svg"]
    assert b"small, step" in drawn["overhead.svg"]
    assert page.read_text().splitlines()[1] == "![memory](results/plots/memory.svg)"
    report.main(arguments)
    assert {path.name: path.read_bytes() for path in (results / "plots").iterdir()} == drawn


def test_without_matplotlib_the_tables_are_made_all_the_same(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "benchmarks.plots", raising=False)
    monkeypatch.delattr("benchmarks.plots", raising=False)
    page = tmp_path / "page.md"
    page.write_text("<!-- table: overhead -->\n<!-- end -->\n")
    assert report.main(["--page", str(page), "--results", str(results)]) == 0
    assert "no plots are drawn" in (out := capsys.readouterr().out) and "onward-pipeline[plots]" in out
    assert page.read_text().splitlines()[1:-1] == EXPECTED["overhead"]
