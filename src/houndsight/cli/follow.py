"""Following a running job on standard error: a bar on a terminal, plain lines in a pipe."""

import json
import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from houndsight.cli.output import duration, note
from houndsight.records.progress import Snapshot
from houndsight.verbs.job import Job


class Bar:
    """One line that says how far a stage is, on a terminal; nothing elsewhere. Redrawn when told, never on its own.

    `waiting` shows it as "starting" before the first stage is known; without, it is not there until then.
    """

    def __init__(self, stream: TextIO, *, waiting: bool = True) -> None:
        self._console = Console(file=stream, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
        self._bar = Progress(
            *columns, console=self._console, auto_refresh=False, transient=True, disable=not stream.isatty()
        )
        self._task = self._bar.add_task("starting", total=None, numbers="", visible=waiting)
        self._stream = stream

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """Write a line above the bar."""
        if self._bar.disable:
            self._stream.write(text + "\n")
            self._stream.flush()
        else:
            self._console.print(text, markup=False, soft_wrap=True)

    def show(self, now: Snapshot) -> None:
        """Draw how far the job is."""
        numbers = f"{now.done}/{now.total}"
        if now.rate is not None:
            numbers += f"  {now.rate:.0f} a second" if now.rate >= 10 else f"  {now.rate:.1f} a second"
        if now.seconds_left is not None:
            numbers += f"  {duration(now.seconds_left)} left"
        self._draw(now.stage, now.done, now.total, numbers)

    def step(self, stage: str, done: int, total: int) -> None:
        """Draw how far a download in this process is; fits `workspace.Progress`."""
        self._draw(stage, done, total, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def _draw(self, stage: str, done: int, total: int, numbers: str) -> None:
        self._bar.update(
            self._task,
            description=stage,
            completed=done,
            total=total or None,
            numbers=numbers,
            visible=True,
            refresh=True,
        )


def is_script(job: Job) -> bool:
    """Whether the job runs a script."""
    return bool(json.loads(job.files.spec.read_bytes()).get("kind") == "script")


def show(job: Job, stream: TextIO) -> None:
    """Pass on the job's log and show its progress until it has ended.

    Nobody knows how far a script is: its own words are its progress, and no bar stands below them.
    """
    with Bar(stream, waiting=not is_script(job)) as bar:
        for event in job.follow():
            if isinstance(event, str):
                bar.line(event)
            else:
                bar.show(event)


def follow(job: Job) -> bool:
    """Follow the job; Ctrl-C stops it cleanly and says how to go on. True where that happened."""
    try:
        show(job, sys.stderr)
    except KeyboardInterrupt:
        script = is_script(job)
        first = "the script is asked to end" if script else "it writes a checkpoint first"
        note(f"\nStopping {job.name}: {first}. Ctrl-C again leaves it to itself.")
        try:
            job.stop()
        except KeyboardInterrupt:
            note(f"{job.name} is stopping on its own; `houndsight jobs` shows when it has.")
            return True
        if job.state == "STOPPED" and script:
            left = "what it saved is packed" if job.model else "it had saved no model"
            note(f"Stopped; {left}. Start it again with: houndsight train --resume {job.name}")
        elif job.state == "STOPPED":
            note(f"Stopped. Go on with: houndsight train --resume {job.name}")
        return True
    return False
