"""Following a search on standard error: a table on a terminal, one line a trial in a pipe; and what came of it."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from houndsight.cli.output import duration, note, percent, say, table
from houndsight.records import progress
from houndsight.spec import FINAL_STATES
from houndsight.tuning import leaderboard
from houndsight.tuning.events import ENDED, State, Trial
from houndsight.tuning.spec import TuningSpec
from houndsight.verbs.tuning_job import TuningJob

LOOK = 0.25
"""Seconds between two looks: four redraws a second at most."""
SHOWN = 8
"""Trials in the table."""


def follow(found: TuningJob) -> bool:
    """Follow the search; Ctrl-C stops it cleanly and says how to go on. True where that happened."""
    try:
        _show(found)
        found.wait()  # its controller has said how it ended and is just leaving
    except KeyboardInterrupt:
        note(f"\nStopping {found.name}: its trials write a checkpoint first. Ctrl-C again leaves it to itself.")
        try:
            found.stop()
        except KeyboardInterrupt:
            note(f"{found.name} is stopping on its own; `houndsight jobs` shows when it has.")
            return True
        note(f"Stopped. Go on with: houndsight tune --resume {found.name}")
        return True
    return False


def _show(found: TuningJob) -> None:
    if sys.stderr.isatty():
        console = Console(file=sys.stderr, highlight=False)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                ended = found.wait(LOOK).state in FINAL_STATES
                live.update(_table(found), refresh=True)
                if ended:
                    return
    told: set[tuple[int, str]] = set()
    ended = False
    while not ended:
        ended = found.wait(LOOK).state in FINAL_STATES
        search, spec = found.search, found.spec
        for trial in search.trials:
            mark = (trial.number, trial.state)
            if mark not in told and trial.state not in ("DECIDED", "RUNNING"):
                note(_line(spec, trial))
            told.add(mark)


def _line(spec: TuningSpec, trial: Trial) -> str:
    which = f"Trial {trial.number}" + (f" of {spec.jobs}" if trial.searched else f" ({trial.role})")
    said = value(spec, trial.promise) if trial.promise is not None else trial.reason
    return f"{which} {trial.state.lower()}: {said}  {settings(trial)}  {duration(trial.seconds)}"


def _table(found: TuningJob) -> Any:
    """The best so far, what runs, and how long it will take."""
    spec, search = found.spec, found.search
    shown = Table(title=_headline(spec, search), title_justify="left", box=None, pad_edge=False)
    for title in ("trial", spec.objective, "95 % interval", "state", "hyperparameters"):
        shown.add_column(title, no_wrap=title != "hyperparameters")
    ranked = [each for each in search.searched if each.state == "COMPLETED" and each.value is not None]
    ranked.sort(key=lambda each: -spec.sign() * float(each.value or 0.0))
    for trial in [*search.running, *ranked[:SHOWN]]:
        running = progress.read(found.place.jobs / trial.job / "progress.json") if trial.state == "RUNNING" else None
        state = f"{running.stage} {running.done}/{running.total}" if running else trial.state.lower()
        shown.add_row(str(trial.number), value(spec, trial.promise), interval(spec, trial), state, settings(trial))
    return shown


def _headline(spec: TuningSpec, search: State) -> str:
    done = [each for each in search.searched if each.state in ENDED or each.state == "PAUSED"]
    spent = search.seconds + (time.time() - search.last if search.running else 0.0)
    text = f"{len(done)} of {spec.jobs} trials, {duration(spent)}"
    if done and search.phase == "search":
        each = spent / len(done)
        text += f", {60 / each:.1f} a minute, about {duration(each * max(0, spec.jobs - len(done)))} left"
    elif search.phase != "search":
        text += f", {search.phase}"
    best = leaderboard.best_trial(spec, search)
    return text if best is None else f"{text}; best {value(spec, best.value)} {interval(spec, best)}"


def value(spec: TuningSpec, number: float | None) -> str:
    """The objective as people read it."""
    if number is None:
        return "-"
    return percent(number) if not spec.is_script and spec.goal == "maximize" else f"{number:.5g}"


def interval(spec: TuningSpec, trial: Trial) -> str:
    """The 95 % interval of a trial's objective."""
    return "-" if trial.low is None else f"{value(spec, trial.low)} to {value(spec, trial.high)}"


def settings(trial: Trial) -> str:
    """The hyperparameters as they were chosen."""
    return " ".join(f"{name}={each}" for name, each in trial.hyperparameters.items()) or "(as it is)"


def summary(found: TuningJob) -> None:
    """Write the leaderboard, the best, the final model, and what to type next."""
    spec, search, status = found.spec, found.search, found.status
    took = duration(status.ended - status.started if status.ended and status.started else None)
    say(f"{found.name}: {status.state} after {took}, {len(search.searched)} trials")
    rows = found.leaderboard
    table(
        (
            (f"  {row.place}", str(row.trial.number), value(spec, row.trial.value), interval(spec, row.trial),
             "tied" if row.tied else "", settings(row.trial))
            for row in rows[:SHOWN]
        ),
        ("  place", "trial", spec.objective, "95 % interval", "with the best", "hyperparameters"),
    )  # fmt: skip
    best = leaderboard.best_trial(spec, search)
    if best is None:
        return
    values = leaderboard.values_of(search, best)
    if len(values) > 1:
        listed = ", ".join(value(spec, each) for each in values)
        say(f"  trial {best.number} over {len(values)} seeds: {listed}; mean {value(spec, leaderboard.mean(values))}")
    job = found.best_job()
    for split, measures in job.metrics.items():
        top1 = measures["top1"]
        say(f"  final model, {split} accuracy {percent(top1.value)} (95 % interval {percent(top1.low)} to "
            f"{percent(top1.high)}, {top1.n} images)")  # fmt: skip
    for finding in found.findings:
        if finding.status == "IssuesFound":
            say(f"  {finding.severity}: {finding.message} {finding.repair}".rstrip())
    for label, path in (("model ", job.model), ("report", found.report)):
        if path is not None:
            say(f"  {label} {path}")
    then = f"deploy {job.name} --entry-point inference.py" if spec.is_script else f"predict {job.name} IMAGE..."
    say(f"Next: houndsight report {found.name}   or   houndsight {then}")
