"""Following a running job on standard error: a bar and colour on a terminal, plain lines in a pipe."""

import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from houndsight.cli.output import duration, note
from houndsight.records.progress import Snapshot
from houndsight.spec import FINAL_STATES
from houndsight.verbs.job import Job


def follow(job: Job) -> bool:
    """Show the job's log and progress until it has ended; Ctrl-C stops it cleanly. True where it was interrupted."""
    try:
        _show(job)
    except KeyboardInterrupt:
        _stop(job)
        return True
    return False


def _show(job: Job) -> None:
    if not sys.stderr.isatty():
        for event in job.follow():
            if isinstance(event, str):
                note(event)
        return
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    # The snapshots come four times a second and each is drawn when it comes; a thread of its own would only add redraws.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("starting", total=None, numbers="")
        for event in job.follow():
            if isinstance(event, str):
                console.print(event, markup=False, soft_wrap=True)
            else:
                _draw(bar, task, event)


def _draw(bar: Progress, task: TaskID, now: Snapshot) -> None:
    numbers = f"{now.done}/{now.total}"
    if now.rate is not None:
        numbers += f"  {now.rate:.0f} a second" if now.rate >= 10 else f"  {now.rate:.1f} a second"
    if now.seconds_left is not None:
        numbers += f"  {duration(now.seconds_left)} left"
    bar.update(task, description=now.stage, completed=now.done, total=now.total or None, numbers=numbers, refresh=True)


def _stop(job: Job) -> None:
    note(f"\nStopping {job.name}: it writes a checkpoint first. Ctrl-C again leaves it to itself.")
    try:
        job.stop()
    except KeyboardInterrupt:
        note(f"{job.name} is stopping on its own; `houndsight jobs` shows when it has.")
        return
    if job.state == "STOPPED":
        note(f"Stopped. Go on with: houndsight train --resume {job.name}")


def wait_quietly(job: Job, line: Callable[[str], None] = note) -> None:
    """Pass the log's lines on until the job has ended, without a bar."""
    for event in job.follow():
        if isinstance(event, str):
            line(event)
    assert job.state in FINAL_STATES
