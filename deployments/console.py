"""Terminal output during and after a job."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from infra.errors import StateError
from infra.states import WORKING_STAGES, Stage

if TYPE_CHECKING:
    from infra.jobs.events import JobEvents

console = Console(stderr=True, highlight=False)
"""For progress, notes and errors."""
out = Console(highlight=False)
"""For results."""


@contextmanager
def progress_bars(events: "JobEvents", job_id: str) -> Generator[None]:
    """Show one progress bar per stage, updated from the job's new events while the body runs."""
    last = "0"
    for event_id, _ in events.read(job_id, block_seconds=0.01):
        last = event_id
    bars = Progress(
        TextColumn("{task.fields[mark]} {task.description:<10}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", style="dim", markup=False),
        console=console,
    )
    with bars:
        rows = {
            stage: bars.add_task(stage.lower(), total=100, start=False, mark=" ", message="")
            for stage in WORKING_STAGES
        }
        stop = threading.Event()
        follower = threading.Thread(target=_follow, args=(events, job_id, last, bars, rows, stop), daemon=True)
        follower.start()
        try:
            yield
        finally:
            stop.set()
            follower.join(5)


def _follow(
    events: "JobEvents", job_id: str, last: str, bars: Progress, rows: dict[Stage, TaskID], stop: threading.Event
) -> None:
    while True:
        ending = stop.is_set()
        try:
            for event_id, event in events.read(job_id, last, block_seconds=0.2):
                last = event_id
                _show(event, bars, rows)
        except StateError:
            stop.wait(1)  # Redis may come back; if not, the run reports the fault
        if ending:
            return


def _show(event: dict[str, str], bars: Progress, rows: dict[Stage, TaskID]) -> None:
    stage = Stage(event["stage"])
    for earlier in WORKING_STAGES:
        if earlier is stage:
            break
        if not bars.tasks[rows[earlier]].finished:
            _finish(bars, rows[earlier])
    if stage not in rows:
        return
    begin, end = stage.span
    share = (float(event["progress"]) - begin) / (end - begin) * 100
    bars.start_task(rows[stage])
    bars.update(rows[stage], completed=min(max(share, 0), 100), mark="•", message=event["message"])
    if share >= 100:
        _finish(bars, rows[stage])
    if event["status"] == "FAILED":
        bars.update(rows[stage], mark="✗", message="")
        bars.stop_task(rows[stage])


def _finish(bars: Progress, row: TaskID) -> None:
    bars.start_task(row)
    bars.update(row, completed=100, mark="✓")
    bars.stop_task(row)


def fail(message: str) -> None:
    """Print one line on standard error."""
    console.print(Text("✗ " + message, style="red"))


def note(message: str) -> None:
    console.print(Text(message, style="dim"))
