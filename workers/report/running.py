"""Sections about how a run went: the time of its stages, their memory, queues and lateness."""

from collections.abc import Callable, Mapping, Sequence

from pipeline.records.number_text import duration, format_bytes, grouped
from workers.report.charts import bars, lines, strip
from workers.report.inks import ink
from workers.report.learning import block_legend, block_lines
from workers.report.measured import Curve
from workers.report.parts import Cell, Panel, Section, Strip, Swatch, Table
from workers.report.runs import ReportRun
from workers.report.stages import KINDS, WORK, Slice, StageStory

__all__ = ["running_sections"]

_TOLD = {
    "forward": "forward", "learn": "learn", "eval": "evaluate", "transfer": "copy messages and batches",
    "wait_recv": "wait for input", "wait_send": "wait for room", "other": "other",
}  # fmt: skip
"""Activities in the order of a bar: work first, then what is not."""
_KINDS = {
    "parameter": "parameters", "optimizer": "optimizer", "held": "held activations", "queue": "queues",
}  # fmt: skip


def running_sections(runs: Sequence[ReportRun]) -> list[Section]:
    """Time, utilisation, memory, queue fill and staleness, as far as the runs have them."""
    return [_time(runs), _utilisation(runs), _memory(runs), _queues(runs), _staleness(runs)]


def _stage_label(story: StageStory) -> str:
    return f"{story.name} ({story.blocks})" if story.blocks else story.name


def _time(runs: Sequence[ReportRun]) -> Section:
    """Seconds by activity; the width of every run is the longest of all."""
    timed = [(i, run, [s for s in run.stages if s.wall_s > 0]) for i, run in enumerate(runs)]
    most = max((story.wall_s for _, _, stories in timed for story in stories), default=0.0)
    inks = {name: ink(f"activity-{name}") for name in _TOLD}
    strips = [
        Strip(
            run.name,
            bars([s.seconds for s in stories], inks, most, _seconds_title, f"time of the stages of {run.name}"), i,
            [_stage_label(s) for s in stories], [f"{100 * (s.busy or 0.0):.0f} % at work" for s in stories],
            ("0", duration(most)),
        )
        for i, run, stories in timed if stories
    ]  # fmt: skip
    rows = [(i, run, story) for i, run, stories in timed for story in stories]
    table = Table(
        ["run", "stage", *(f"{told}, s" for told in _TOLD.values()), "wall, s"],
        [
            [Cell(run.name), Cell(_stage_label(s)),
             *(Cell(grouped(s.seconds.get(name)), is_number=True) for name in _TOLD), Cell(grouped(s.wall_s), True)]
            for _, run, s in rows
        ],
        [i for i, _, _ in rows], "In seconds", is_folded=True,
    )  # fmt: skip
    about = "Where each stage's seconds went, from the moment that all were ready. At work: forward, learn, evaluate."
    return Section("time", "Time by stage", about, _activity_legend(), strips=strips, tables=[table] if rows else [])


def _activity_legend() -> list[Swatch]:
    return [Swatch(f"activity-{name}", told) for name, told in _TOLD.items()]


def _seconds_title(name: str, seconds: float) -> str:
    return f"{_TOLD[name]}: {duration(seconds)}"


def _utilisation(runs: Sequence[ReportRun]) -> Section:
    """What each stage did over the time of its run, as shares of every epoch, or finer where a trace is there."""
    strips = []
    for i, run in enumerate(runs):
        rows = [(s, run.timeline.whole.get(k) or s.slices) for k, s in enumerate(run.stages)]
        closer = [(s, run.timeline.closer.get(k, ())) for k, s in enumerate(run.stages)]
        strips += [
            _strip(run.name, i, f"utilisation of the stages of {run.name}", rows, _range_of_busy),
            _strip(f"{run.name}: a few forward passes in its middle", i, f"closer at {run.name}", closer, _nothing),
        ]
    about = (
        "Each row is a stage, from the run's first second to its last: the shares of every epoch's time, or of 240 "
        "slices of the whole where a run has a trace (--trace)."
    )
    found = [strip for strip in strips if strip is not None]
    return Section("utilisation", "Utilisation of the pipeline", about, _activity_legend(), strips=found)


def _strip(
    title: str, place: int, label: str, rows: Sequence[tuple[StageStory, Sequence[Slice]]],
    value: Callable[[StageStory], str],
) -> Strip | None:  # fmt: skip
    """A row for each stage of which something is known; None where nothing is."""
    known = [(story, slices) for story, slices in rows if slices]
    end = max((slices[-1].end_s for _, slices in known), default=0.0)
    if end <= 0:
        return None
    inks = {name: ink(f"activity-{name}") for name in _TOLD}
    return Strip(
        title, strip([slices for _, slices in known], inks, end, label), place, [_stage_label(s) for s, _ in known],
        [value(s) for s, _ in known], ("0", _short(end)),
    )  # fmt: skip


def _nothing(_: StageStory) -> str:
    return ""


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 0.1 else duration(seconds)


def _range_of_busy(story: StageStory) -> str:
    """Of the epochs."""
    shares = [100 * sum(s.shares.get(name, 0.0) for name in WORK) for s in story.slices] or [0.0]
    low, high = f"{min(shares):.0f}", f"{max(shares):.0f}"
    return f"{low} % at work" if low == high else f"{low} to {high} % at work"


def _memory(runs: Sequence[ReportRun]) -> Section:
    """Bytes by kind; the width of every run is the most of all."""
    kept = [(i, run, [s for s in run.stages if any(s.memory.get(k) for k in KINDS)]) for i, run in enumerate(runs)]
    most = max((_bytes(story) for _, _, stories in kept for story in stories), default=0.0)
    inks = {name: ink(f"kind-{name}") for name in _KINDS}
    strips = [
        Strip(
            run.name,
            bars([_kinds(s) for s in stories], inks, most, _bytes_title, f"memory of the stages of {run.name}"), i,
            [_stage_label(s) for s in stories], [_peaks(s) for s in stories], ("0", format_bytes(most)),
        )
        for i, run, stories in kept if stories
    ]  # fmt: skip
    legend = [Swatch(f"kind-{name}", told) for name, told in _KINDS.items()]
    rows = [(i, run, story) for i, run, stories in kept for story in stories]
    titles = ["run", "stage", *_KINDS.values(), "process at its peak", "device at its peak"]
    kinds = (*_KINDS, "peak_rss", "peak_device")
    table = Table(titles, [
        [Cell(run.name), Cell(_stage_label(s)), *(Cell(format_bytes(s.memory.get(kind)), True) for kind in kinds)]
        for _, run, s in rows
    ], [i for i, _, _ in rows], "In bytes", is_folded=True)  # fmt: skip
    about = (
        "Of each stage, by kind. The peak is that of its whole process: Python and torch are in it, and pages that "
        "processes share count in each."
    )
    return Section("memory", "Memory by stage", about, legend, strips=strips, tables=[table] if rows else [])


def _kinds(story: StageStory) -> dict[str, float]:
    return {kind: story.memory.get(kind) or 0.0 for kind in KINDS}


def _bytes(story: StageStory) -> float:
    return sum(_kinds(story).values())


def _peaks(story: StageStory) -> str:
    peak = story.memory.get("peak_device") or story.memory.get("peak_rss")
    whole = format_bytes(_bytes(story))
    return whole if peak is None else f"{whole}, peak {format_bytes(peak)}"


def _bytes_title(name: str, size: float) -> str:
    return f"{_KINDS[name]}: {format_bytes(size)}"


def _queues(runs: Sequence[ReportRun]) -> Section:
    """Messages that wait in front of each stage."""
    about = (
        "Activations that wait in front of each stage, a mean over the epoch as its reports tell (four a second; "
        "shorter epochs have none). A full queue means that the stage is the slow one, an empty one that it waits."
    )
    return _by_stage(runs, "queues", "Queue fill", about, lambda story: story.fill, "messages waiting")


def _staleness(runs: Sequence[ReportRun]) -> Section:
    """Lateness of updates; said in a line where there is none."""
    about = "By how many updates of the same weights an update came late, a mean over the epoch."
    late = [any(value > 0 for story in run.stages for value in story.staleness.values()) for run in runs]
    if not any(late):
        known = any(story.staleness for run in runs for story in run.stages)
        text = "No update came late: each was made with the weights that had seen the batch."
        return Section("staleness", "Staleness", text if known else "", is_said=known)
    on_time = ", ".join(run.name for run, is_late in zip(runs, late, strict=True) if not is_late)
    about += f" None was late in: {on_time}." if on_time else ""
    return _by_stage(runs, "staleness", "Staleness", about, _lateness, "updates late")


def _lateness(story: StageStory) -> Curve:
    """Empty where no update was late."""
    return story.staleness if any(story.staleness.values()) else {}


def _by_stage(
    runs: Sequence[ReportRun], name: str, title: str, about: str, curve_of: Callable[[StageStory], Curve], what: str
) -> Section:
    """A panel for each run, a line for each stage."""
    panels = []
    for i, run in enumerate(runs):
        curves: Mapping[int, Curve] = dict(enumerate(curve_of(story) for story in run.stages))
        if found := block_lines(curves, "stage"):
            panels.append(Panel(f"{run.name}: {what}", lines(found, f"{name} of {run.name}", floor=0.0), i))
    count = max((len(run.stages) for run in runs), default=0)
    return Section(name, title, about, legend=block_legend(count, "stage") if count else (), panels=panels)
