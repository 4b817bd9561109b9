"""Runs one training script as a job: what SageMaker's container does around it, from its folders to its archives."""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from houndsight.backends.base import Stop
from houndsight.contract import layout, look_job
from houndsight.contract.arguments import arguments, as_read, split
from houndsight.contract.environment import Machine, environment, this_machine
from houndsight.contract.failure import HEAD, MOST, MOST_ERROR, FailureText, hint
from houndsight.contract.life import Ending, Limits, Script, kill_left
from houndsight.contract.lines import LineTap
from houndsight.contract.metrics import MODE, MetricScanner
from houndsight.contract.outcome import failed_at, machine_facts, summary
from houndsight.contract.pack import pack
from houndsight.contract.program import Program, program
from houndsight.errors import JobError
from houndsight.folders import JobFolder
from houndsight.records.writer import RecordWriter
from houndsight.reports.ran import Packed, ScriptOutcome
from houndsight.scripts import afterwards
from houndsight.spec import ScriptSpec
from houndsight.workspace import atomic_write, friendly_disk_errors, remove_tree, write_json

log = logging.getLogger("houndsight")

GRACE = 120.0
"""Seconds between SIGTERM and SIGKILL, as on SageMaker."""
_TO_PACK = 10.0
"""Seconds of the grace that are kept for packing what a killed script left: then the job itself is killed."""


@dataclass
class _Run:
    """One run and what is gathered from its output."""

    words: list[str]
    ending: Ending
    seconds: float
    scanner: MetricScanner
    text: FailureText
    machine: Machine


def run_script(
    job: JobFolder, spec: ScriptSpec, stop: Stop, records: RecordWriter, grace: float | None = None
) -> Literal["COMPLETED", "STOPPED"]:
    """Run the script of a job to its end.

    Raises `JobError` where it fails; the message is the text of `output/failure`, at most 1,024 characters. When this
    returns or raises, nothing of the script runs any more, its temporary files are gone, and what it left in its model
    and output folders is packed, whether it ended well, failed or was stopped. Numbers found by `spec.metrics` are in
    `records` with mode `script`. `grace` overrides the seconds that a stopped script is given.
    """
    again = job.input.is_dir()
    job.script.unlink(missing_ok=True)
    machine = this_machine()
    config = layout.prepare(job, spec, machine.region, machine.interface)
    if again:
        kill_left(str(job.path))
    if stop():
        return "STOPPED"
    looked = look_job.begin(job, spec, machine.cpus, machine.gpus)
    hyperparameters, _ = split(as_read(config["hyperparameters"]))
    started = program(job, spec, arguments(hyperparameters))
    recorded = _recorded(job) if again else {}
    with _scratch(job):
        variables = started.variables(environment(job, spec, config, machine, os.environ))
        scanner = MetricScanner(spec.metrics, records, recorded)
        run = _live(job, spec, started, variables, machine, scanner, stop, grace)
    afterwards.conclude(job, spec)
    look_job.end(job, looked)
    job.output.mkdir(exist_ok=True)  # a script may have done anything to it
    left = ((job.model, job.model_archive), (layout.output_data(job), job.output_archive))
    packed = {archive.name: done for folder, archive in left if (done := pack(folder, archive)) is not None}
    return _conclude(job, spec, run, started.missing, packed)


def _recorded(job: JobFolder) -> Counter[str]:
    """How many numbers of each metric earlier starts of the job recorded."""
    from houndsight.records.reader import Records  # numpy: 0.1 s that a first start does not wait for

    return Counter(each.name for each in Records(job.records).scalars(mode=MODE))


def _live(
    job: JobFolder,
    spec: ScriptSpec,
    started: Program,
    variables: dict[str, str],
    machine: Machine,
    scanner: MetricScanner,
    stop: Stop,
    grace: float | None,
) -> _Run:
    """Start the script and gather what it prints until nothing of it is left."""
    text = FailureText()
    began = time.monotonic()
    with friendly_disk_errors(job.path), job.log.open("a", encoding="utf-8") as file:

        def write(piece: str) -> None:
            file.write(piece)
            file.flush()

        tap = LineTap(write)

        def take(lines: list[str]) -> None:
            text.scan(lines)
            scanner.scan(lines)

        write(f"Invoking script with the following command:\n\n{' '.join(started.words)}\n\n")
        limits = Limits(stop, spec.max_seconds, lambda: _grace(job) if grace is None else grace)
        ending = Script([*started.before, *started.words], job.code, variables).run(
            limits, lambda data: take(tap.feed(data)), tap.idle
        )
        take(tap.close())
    return _Run(started.words, ending, time.monotonic() - began, scanner, text, machine)


def _grace(job: JobFolder) -> float:
    """What the request to stop asks for (its file holds seconds as JSON), less the time that packing takes."""
    try:
        asked = float(json.loads(job.stop_request.read_bytes()))
    except (OSError, ValueError, TypeError):
        asked = GRACE
    return max(0.0, asked - min(_TO_PACK, asked / 2))


def _conclude(
    job: JobFolder, spec: ScriptSpec, run: _Run, missing: list[str], packed: dict[str, Packed]
) -> Literal["COMPLETED", "STOPPED"]:
    """Write down how it ended, and say so to whoever reads the log."""
    failed = run.ending.code != 0 and not run.ending.stopped
    reason = _failure(job, run) if failed else ""
    ours = reason.startswith(HEAD)
    outcome = ScriptOutcome(
        command=tuple(run.words),
        exit_code=run.ending.code,
        seconds=round(run.seconds, 3),
        stopped=run.ending.stopped,
        killed=run.ending.killed,
        metrics={metric.name: summary(metric) for metric in run.scanner.metrics},
        failure=reason,
        error=run.text.error(run.ending.code) if ours else reason[:MOST_ERROR],
        failed_at=failed_at(run.text, job.code) if failed else None,
        traceback=tuple(run.text.traceback[-40:]) if failed else (),
        not_installed=tuple(missing),
        machine=machine_facts(run.machine, run.ending),
        packed=packed,
    )
    write_json(job.script, outcome)
    _say_what_was_found(outcome)
    if run.ending.stopped:
        log.info("The script was %s.", run.ending.stopped)
        return "STOPPED"
    if failed:
        neighbours = [each.stem if each.suffix == ".py" else each.name for each in Path(spec.source_dir).glob("*")]
        raise JobError(reason, hint(reason, spec.channels, neighbours if spec.alone else (), missing))
    layout.success(job).touch()
    return "COMPLETED"


def _failure(job: JobFolder, run: _Run) -> str:
    """The text of `output/failure`: what the script wrote there itself, else SageMaker's words."""
    if job.failure.is_file():
        with job.failure.open(encoding="utf-8", errors="replace") as file:
            said = file.read(MOST)
        if said.strip():
            return said
    reason = run.text.reason(run.ending.code, run.words)
    with atomic_write(job.failure, "w") as file:
        file.write(reason)
    return reason


def _say_what_was_found(outcome: ScriptOutcome) -> None:
    for name, metric in outcome.metrics.items():
        if metric.count == 0 and not metric.skipped and not metric.gave_up:
            log.warning("Metric '%s' was found in no line of the output: '%s'.", name, metric.expression)
        if metric.skipped:
            log.warning("Metric '%s': %d matches were no number and are left out.", name, metric.skipped)
    if outcome.killed:
        log.warning("The script left %d processes behind; they were killed.", outcome.killed)


@contextmanager
def _scratch(job: JobFolder) -> Iterator[None]:
    """The folder of temporary files, there as long as the script runs."""
    folder = layout.make_scratch(job)
    try:
        yield
    finally:
        remove_tree(folder)
