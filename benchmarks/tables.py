"""Markdown tables of the pages, each made from one file of results alone.

A page holds ``<!-- table: NAME -->`` and ``<!-- end -->``; what stands between them is made here. A table whose file
does not exist yet is empty.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.page import render as render_accuracy
from benchmarks.accuracy.store import Store
from benchmarks.halting import markdown as halting_markdown
from benchmarks.link_tables import markdown as links_markdown
from benchmarks.probing import markdown as probing_markdown
from benchmarks.published import TABLES as PUBLISHED
from benchmarks.roofline import markdown as roofline_markdown
from benchmarks.runs import TABLES as RUNS
from benchmarks.runs import markdown
from benchmarks.scaling_tables import TABLES as SCALING
from benchmarks.wording import bandwidth, number, numbers, seconds, share_text, spread_text, table
from pipeline.records.number_text import format_bytes

__all__ = ["fill", "largest_stage", "read", "render"]

_MARKED = re.compile(r"(<!-- (table|plot): ([\w.-]+) -->\n)(.*?)(<!-- end -->)", re.S)


def fill(page: str, results: Path, link: str) -> str:
    """``page`` with every marked place made anew.

    Args:
        page: Markdown.
        results: folder of the JSON files.
        link: from the page to that folder, for pictures.
    """

    def made(match: re.Match[str]) -> str:
        kind, name = match[2], match[3]
        text = render(name, results) if kind == "table" else _picture(name, results, link)
        return match[1] + (f"{text}\n" if text else "") + match[5]

    return _MARKED.sub(made, page)


def render(name: str, results: Path) -> str:
    """The table ``name``; empty where its file does not exist.

    Raises:
        ValueError: there is no such table.
    """
    if name.startswith("accuracy-") and name.removeprefix("accuracy-") in PUBLISHED:
        return render_accuracy(PUBLISHED[name.removeprefix("accuracy-")], Store(results / "accuracy"))
    if name == "throughput":
        return _presets([read(path) for path in sorted(results.glob("throughput-*.json"))])
    stem = name
    of_stem: Callable[[Mapping[str, Any]], str] = _of_environment
    if name.endswith("-environment"):
        stem = name.removesuffix("-environment")
    elif name.startswith("throughput-"):
        of_stem = _throughput
    elif name.startswith("links-"):
        of_stem = links_markdown
    elif name.startswith("roofline-"):
        of_stem = roofline_markdown
    elif name in RUNS:
        of_stem = _run
    elif name in _TABLES:
        stem, of_stem = _TABLES[name]
    else:
        raise ValueError(
            f"no table of that name (given: {name}, expected: throughput, throughput-PRESET, links-PRESET, "
            f"roofline-PRESET, FILE-environment, accuracy-PUBLISHED, {', '.join([*_TABLES, *RUNS])}). Correct the "
            "marker."
        )
    path = results / f"{stem}.json"
    return of_stem(read(path)) if path.exists() else ""


def _picture(name: str, results: Path, link: str) -> str:
    """Link to a plot; empty where it has not been drawn."""
    return f"![{name}]({link}/plots/{name}.svg)" if (results / "plots" / f"{name}.svg").exists() else ""


def read(path: Path) -> Mapping[str, Any]:
    """A file of results."""
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return found


def _environment(about: Mapping[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    yield f"{about['cores']} cores of {about['cpu']}{_instructions(about)}"
    yield from about["devices"]
    yield f"{versions}, python {about['python']}"
    if about.get("threads") is not None:
        yield f"{about['threads']} compute thread{'s' if about['threads'] != 1 else ''} per process"
    yield f"commit {about['commit']}"


def _instructions(about: Mapping[str, Any]) -> str:
    """`` with AVX2 at most (ONEDNN_MAX_CPU_ISA=AVX2)``; nothing where the file does not say."""
    if "instructions" not in about:
        return ""
    limits = ", ".join(f"{name}={value}" for name, value in about["limits"].items())
    return f" with {about['instructions']}" + (f" at most ({limits})" if limits else "")


def _limited(about: Mapping[str, Any]) -> str:
    """Behind the name of a preset that was kept from instructions of the processor."""
    return f", {about['instructions']} at most" if about.get("limits") else ""


def _of_environment(found: Mapping[str, Any]) -> str:
    """Machine, versions and command of a file."""
    return f"{'; '.join(_environment(found['environment']))}.\nCommand: `{' '.join(found['environment']['command'])}`"


def _run(found: Mapping[str, Any]) -> str:
    return markdown(found["summary"])


def _presets(files: Sequence[Mapping[str, Any]]) -> str:
    """One row per preset: the ratios that decide."""
    if not files:
        return ""
    rows = []
    for found in files:
        arms, spreads = found["arms"], found.get("ratios_all", {})
        torchs = [name for name in ("torch-gpipe", "torch-1f1b") if arms.get(name, {}).get("samples_per_s")]
        best = max(torchs, key=lambda name: float(arms[name]["samples_per_s"]), default="")
        ratios = [spread_text(spreads.get(name)) for name in (best, "backprop", "ddp")]
        hung = [name for name, arm in arms.items() if arm.get("status") == "hang"]
        name = found["preset"] + _limited(found["environment"]) + (f" (hung: {', '.join(hung)})" if hung else "")
        rows.append([name, *ratios, share_text(found.get("matmul_fraction"))])
    return table(["preset", "against the best of torch's GPipe and 1F1B", "against one-process backprop",
                   "against DDP", "share of peak GEMM throughput"], rows)  # fmt: skip


def _throughput(found: Mapping[str, Any]) -> str:
    """All arms of a preset, each with its ratio to onward-2, or the reason for a missing figure."""
    rows = []
    for name, arm in found["arms"].items():
        if "best" in arm:  # a group's best arm under the name of the group: it has a row already
            continue
        rate = arm["samples_per_s"]
        if rate is None:
            rows.append([name, _why(arm), "-"])
            continue
        every = [value for value in arm["all"] if value is not None]
        figure = {"median": rate, "min": min(every), "max": max(every)}
        rows.append([name, spread_text(figure), spread_text(found.get("ratios_all", {}).get(name))])
    return table(["arm", "samples per second", "onward-2 against it"], rows)


def _why(arm: Mapping[str, Any]) -> str:
    """Reason for a missing figure, short enough for a cell."""
    text = " ".join(str(arm.get("note") or "").split()).replace("|", "/")
    return f"{arm['status']}: {text[:120]}" if text else str(arm["status"])


def _by_size(found: Mapping[str, Any], arms: Mapping[str, Any], cell: Callable[[Mapping[str, Any]], str]) -> str:
    """A row per arm, a column per size."""
    rows = [[name, *(cell(by_size[str(size)]) for size in found["sizes"])] for name, by_size in arms.items()]
    return table(["", *(format_bytes(size) for size in found["sizes"])], rows)


def _latency(found: Mapping[str, Any]) -> str:
    return _by_size(found, found["arms"], lambda cell: spread_text(cell["latency_s"], seconds))


def _bandwidth(found: Mapping[str, Any]) -> str:
    return _by_size(found, found["arms"], lambda cell: spread_text(cell["bytes_per_s"], bandwidth))


def _transport_ratios(found: Mapping[str, Any]) -> str:
    """Latency of the other arms over that of shared_memory, and its bandwidth over theirs."""
    return _by_kind(found, found["ratios"])


def _over_gloo(found: Mapping[str, Any]) -> str:
    """Latency and bandwidth of the process group over those of gloo's own send and receive."""
    return _by_kind(found, found["over_gloo"])


def _by_kind(found: Mapping[str, Any], ratios: Mapping[str, Any]) -> str:
    """A row for the latency, then one for the bandwidth, of every arm."""
    kinds = {f"{kind}, {arm}": {size: cell[kind] for size, cell in by_size.items()}
             for kind in ("latency", "bandwidth") for arm, by_size in ratios.items()}  # fmt: skip
    return _by_size(found, kinds, spread_text)


def largest_stage(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stage of a run with the highest peak."""
    found: Mapping[str, Any] = max(row["stages"], key=lambda stage: number(stage["peak_bytes"]))
    return found


def _memory(found: Mapping[str, Any]) -> str:
    """The largest stage of every run, taken apart, and the sum of the peaks of all its stages."""
    parts = ("parameter", "head", "optimizer", "held", "queue", "other")
    rows = []
    for row in found["networks"]:
        stage = largest_stage(row)
        split = [format_bytes(stage[f"{part}_bytes"]) for part in parts]
        total = format_bytes(sum(number(s["peak_bytes"]) for s in row["stages"]))
        rows.append([str(row["blocks"]), row["arm"], str(len(row["stages"])), *split,
                     spread_text(stage["peak_bytes"], format_bytes), total])  # fmt: skip
    return table(["blocks", "arm", "stages", "parameters", "heads", "optimizer", "held", "queues", "other", "peak",
                  "peaks of all stages"], rows, 2)  # fmt: skip


def _held(found: Mapping[str, Any]) -> str:
    """Held activations alone: most in any stage, by the number of blocks."""
    sizes = sorted({row["blocks"] for row in found["networks"]})
    held: dict[str, dict[int, str]] = {}
    for row in found["networks"]:
        most = max(stage["held_bytes"] for stage in row["stages"])
        held.setdefault(row["arm"], {})[row["blocks"]] = format_bytes(most)
    rows = [[arm, *(cells.get(size, "-") for size in sizes)] for arm, cells in held.items()]
    return table(["held by one stage", *(f"{size} blocks" for size in sizes)], rows)


def _sequential(found: Mapping[str, Any]) -> str:
    growth = list(found["arms"][0]["growth"])
    rows = [
        [str(row["stages"]), row["cache"], *(spread_text(row["seconds"][str(n)], seconds) for n in found["blocks"]),
         *(spread_text(row["growth"][name]) for name in growth)]
        for row in found["arms"]
    ]  # fmt: skip
    return table(["stages", "cache", *(f"{n} blocks" for n in found["blocks"]), *(f"t({g.replace('/', ')/t(')})"
                   for g in growth)], rows, 2)  # fmt: skip


def _overhead(found: Mapping[str, Any]) -> str:
    """Parts in microseconds, then ratios; whatever numbers the file has, by their names."""
    rows = [[name, f"{value} us"] for name, value in numbers(found["parts"])]
    rows += [[name, value] for name, value in numbers(found.get("ratios", {}))]
    return table(["", "median"], rows)


_TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "transport-latency": ("transport", _latency),
    "transport-bandwidth": ("transport", _bandwidth),
    "transport-ratios": ("transport", _transport_ratios),
    "transport-over-gloo": ("transport", _over_gloo),
    "memory": ("memory", _memory),
    "memory-held": ("memory", _held),
    "memory-lm": ("memory-lm", _memory),
    "memory-lm-held": ("memory-lm", _held),
    "sequential": ("sequential", _sequential),
    "overhead": ("overhead", _overhead),
    "probing": ("probing", probing_markdown),
    "halting": ("halting", halting_markdown),
    **SCALING,
}
