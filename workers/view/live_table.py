"""Live table of a run on a terminal, drawn over and over while the run goes on.

The coordinator only notes what it is told; rich's own thread draws, four times a second, so a slow terminal never
holds up a report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.records.number_text import duration, grouped
from pipeline.records.reports import BlockScores, StageProgress, process_of
from pipeline.records.view import Silent
from pipeline.resolve import RunSpec
from pipeline.schedules.plan import BlockMode, Plan
from workers.host.streams import drained
from workers.placement import Placement
from workers.view.stage_meter import StageMeter
from workers.view.text import RunText, block_range, gate_text, loss_text, plural

__all__ = ["LiveTable"]

BAR_FROM = 40
"""Fewest characters of a line that has a progress bar."""
TIMES_FROM = 64
"""Fewest characters of a line that has the elapsed and remaining time."""
_GATE = "gate"


class LiveTable(Silent):
    """Shows the run's progress, and for each stage its rate, loss, queue and the score of its blocks.

    Args:
        resolved: the run.
        placement: where it runs.
        text: for the sentences.
        console: a terminal.
    """

    def __init__(self, resolved: RunSpec, placement: Placement, text: RunText, console: Console) -> None:
        self._text = text
        self._console = console
        self._clock = text.clock
        replicas = placement.replicas
        places = [replicas.place(p) for p in range(replicas.num_processes)]
        self._partition = [placement.partition[stage] for stage, _ in places]
        """Blocks of each process."""
        self._num_stages = placement.num_stages
        self._names = [str(s) if replicas.counts[s] == 1 else f"{s}.{r}" for s, r in places]
        self._num_steps = resolved.batching.num_steps
        self._max_epochs = resolved.config.train.epochs
        self._depth = resolved.config.transport.depth
        self._phased = resolved.schedule().depends_on_results
        self._meters = [StageMeter() for _ in self._partition]
        self._scores: dict[int, float] = {}
        """Test score of each block by its last evaluation."""
        self._is_gated = resolved.mode.is_gated
        self._gates: dict[int, float] = {}
        """The part of its steps that each block took in the last epoch in which it learned."""
        self._plans: dict[int, Plan] = {}
        """Known plans of the epochs that not every stage has finished, by epoch."""
        self._plan: Plan | None = None
        """The first of them; that of the last epoch when there is none."""
        self._last_epoch = ""
        self._created_s = self._clock()
        self._started_s: float | None = None
        self._ended_s: float | None = None
        self._is_complete = False
        self._live = Live(console=console, get_renderable=lambda: self, refresh_per_second=4)
        self._live.start(refresh=True)

    # -- what the coordinator calls ----------------------------------------------------------------------------

    def planned(self, plan: Plan) -> None:
        """Note the plan of an epoch."""
        self._plans[plan.epoch] = plan
        self._go_on()

    def started(self) -> None:
        """Start the clocks."""
        self._text.started()
        self._started_s = self._clock()
        self._set_meters()

    def progress(self, body: StageProgress) -> None:
        """Note a stage's report."""
        self._meters[process_of(body)].take(body, self._clock())

    def epoch(self, plan: Plan, blocks: Sequence[BlockScores]) -> None:
        """Note the blocks' rows of a finished epoch."""
        self._last_epoch = self._text.epoch(plan, blocks, aligned=False)
        found = {b["block"]: self._text.score.of(b) for b in blocks}
        self._scores |= {block: score for block, score in found.items() if score is not None}
        self._gates |= {b["block"]: b["gate"] for b in blocks if "gate" in b}
        for meter in self._active_meters(plan) if not plan.scores_test else ():
            meter.finish((plan.epoch + 1) * self._num_steps)
        self._plans.pop(plan.epoch, None)
        self._go_on()

    def finished(self, table: Mapping[str, Any]) -> None:
        """Leave the last state and a summary on the terminal."""
        self._is_complete = True
        self._stop()
        how, where = self._text.ending(table)
        with suppress(OSError):
            self._console.print(Text(how, style="bold"))
            self._console.print(Text(where), soft_wrap=True)  # unbroken, so that it can be copied

    def close(self) -> None:
        """Draw a last time and show the cursor again, and wait for a slow terminal, a second at most."""
        self._stop()
        drained(self._console.file)

    def _stop(self) -> None:
        """Draw a last time and show the cursor again; a second call does nothing."""
        if self._ended_s is not None:
            return
        self._ended_s = self._clock()
        # A terminal that is gone must not turn a good run into a failed one.
        with suppress(OSError):
            try:
                self._live.stop()
            finally:
                self._console.show_cursor(True)

    def _go_on(self) -> None:
        """Show the first epoch that is not finished, where its plan is known."""
        plan = next(iter(self._plans.values()), None)
        if plan is not None and plan is not self._plan:
            self._plan = plan
            self._set_meters()

    def _set_meters(self) -> None:
        """Take rates only of stages that batches pass through."""
        if self._plan is None or self._started_s is None:
            return
        active = self._active_meters(self._plan)
        for meter in self._meters:
            if meter not in active:
                meter.rest()
            elif meter.is_resting:
                meter.begin(self._clock())

    def _active_meters(self, plan: Plan) -> list[StageMeter]:
        """Meters of the stages that the batches of ``plan`` pass through."""
        return [m for m, blocks in zip(self._meters, self._partition, strict=True) if plan.active(blocks)]

    # -- what rich's thread calls ------------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The whole view, for a terminal ``options.max_width`` characters wide."""
        yield Text(self._text.headline(), style="bold")
        yield self._bar(options.max_width)
        # Above the stages: where the terminal is too low, it is stages that are cut off.
        if self._last_epoch:
            yield Text(self._last_epoch, overflow="fold")
        yield self._stages(options.max_width)

    def _bar(self, width: int) -> Table | Text:
        """Line with the epoch, the progress bar and the times."""
        now, share, waiting = self._now(), self._share(), self._started_s is None
        percentage = "" if waiting else f"{int(100 * share)} %"
        if width < BAR_FROM:
            return Text(f"{self._label()}  {percentage}")
        bar = ProgressBar(total=1.0, completed=share, pulse=waiting and self._ended_s is None)
        cells: list[RenderableType] = [self._label(), bar, percentage]
        if width >= TIMES_FROM:
            cells.append(self._times(now, share))
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for cell in cells:
            grid.add_column(no_wrap=True, ratio=1 if cell is bar else None)
        grid.add_row(*cells)
        return grid

    def _label(self) -> str:
        """Text of the current epoch, or that stages start."""
        if self._started_s is None or self._plan is None:
            return f"starting {plural(self._num_stages, 'stage')}"
        return self._text.position(self._plan)

    def _share(self) -> float:
        """Share of the run that is done; where blocks take turns, of the current block's most epochs."""
        if self._is_complete:
            return 1.0
        if self._plan is None:
            return 0.0
        first = self._plan.epoch * self._num_steps
        slowest = min((m.steps_done for m in self._active_meters(self._plan)), default=first)
        step = min(max(slowest - first, 0), self._num_steps)
        done = self._plan.lr_epochs[self._plan.top] * self._num_steps + step
        return min(1.0, done / (self._max_epochs * self._num_steps))

    def _times(self, now: float, share: float) -> str:
        """Elapsed time, and the remaining time where the number of epochs is known."""
        since = self._created_s if self._started_s is None else self._started_s
        elapsed = now - since
        if self._phased or not 0 < share < 1 or self._ended_s is not None:
            return duration(elapsed, digits=0)
        return f"{duration(elapsed, digits=0)}, {duration(elapsed / share - elapsed, digits=0)} left"

    def _now(self) -> float:
        """Reading of the clock in seconds, that of the end after the end."""
        return self._clock() if self._ended_s is None else self._ended_s

    def _stages(self, width: int) -> Table:
        """Table with a row for each stage; a narrow terminal shows the more important columns."""
        columns = [c for c in self._columns() if width >= c[1]]
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for header, _, _ in columns:
            wraps = header in (self._text.score.header, _GATE)
            table.add_column(header, justify="left" if wraps else "right", no_wrap=not wraps)
        for index in range(len(self._meters)):
            table.add_row(*(cell(index) for _, _, cell in columns))
        return table

    def _columns(self) -> Iterator[tuple[str, int, Callable[[int], str]]]:
        """Columns: header, fewest characters of a line that has it, and function from a stage to its cell."""
        meters, now = self._meters, self._now()
        yield "stage", 0, self._names.__getitem__
        yield "blocks", 60, lambda s: block_range(self._partition[s])
        if self._phased:
            yield "does", 76, self._state
        yield "epoch", 52, lambda s: self._position(meters[s])[0]
        yield "step", 68, lambda s: self._position(meters[s])[1]
        yield "samples/s", 0, lambda s: grouped(meters[s].samples_per_s(now))
        yield "loss", 28, lambda s: loss_text(meters[s].loss)
        if len(meters) > 1:
            yield "queue", 44, lambda s: "-" if meters[s].fill is None else f"{meters[s].fill}/{self._depth}"
        if self._is_gated:
            yield _GATE, 76, lambda s: " ".join(gate_text(self._gates.get(k)) for k in self._partition[s])
        score = self._text.score
        yield score.header, 36, lambda s: " ".join(score.text(self._scores.get(k)) for k in self._partition[s])

    def _position(self, meter: StageMeter) -> tuple[str, str]:
        """Cells of a stage's epoch and step, counted from 1."""
        if meter.steps_done == 0:
            return "-", "-"
        epoch, step = divmod(meter.steps_done - 1, self._num_steps)
        return str(epoch + 1), f"{step + 1}/{self._num_steps}"

    def _state(self, stage: int) -> str:
        """Cell of a stage's activity, where blocks take turns."""
        plan, blocks = self._plan, self._partition[stage]
        if plan is None or self._is_complete:
            return "-"
        training = [k for k in blocks if plan.modes[k] is BlockMode.TRAIN]
        if training:
            return "trains " + " ".join(map(str, training))
        if plan.active(blocks):
            return "forward"
        return "frozen" if any(plan.modes[k] is BlockMode.FROZEN for k in blocks) else "waits"
