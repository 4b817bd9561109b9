"""The last station: everything a job folder holds, gathered into one `Page` and written as report.json and report.html.

Whatever is missing is left out, so that a running, stopped or failed job has a page too; whatever cannot be read is
named on the page.
"""

import datetime
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from houndsight.errors import HoundsightError, RequestError
from houndsight.folders import JobFolder
from houndsight.records.reader import Records
from houndsight.records.schema import Scalar, Span
from houndsight.records.timeline import LOOP
from houndsight.reports import commands, evidence, html, log, machine, sagemaker, script, series, speed, tensors, words
from houndsight.reports.page import (
    Cell,
    ClassCount,
    Confused,
    Curve,
    DataTable,
    Failure,
    Page,
    Result,
    Run,
    Setting,
    TimeUse,
)
from houndsight.reports.ran import ScriptOutcome
from houndsight.reports.watched import Speed
from houndsight.results import Evaluation, ModelCard
from houndsight.spec import (
    ClassifierSpec,
    Finding,
    Frozen,
    Index,
    JobSpec,
    ScriptSpec,
    SplitName,
    Status,
)
from houndsight.workspace import atomic_write, write_json

REJECTS = 50
"""Most rejected files listed by name."""
CELLS = 5000
"""Most cells of the confusion matrix: more would make the page slow without being told apart."""
PAIRS = 20
"""Most confused pairs listed."""

AnyFrozen = TypeVar("AnyFrozen", bound=Frozen)
AnyPart = TypeVar("AnyPart")


def build(job: JobFolder) -> None:
    """Write report.json and then report.html, each whole or not at all; needs nothing but the job folder.

    Raises `DiskFullError` or `WorkspaceError` where the folder cannot be written.
    """
    page = gather(job)
    write_json(job.report_data, page)
    text = html.render(page, job)
    with atomic_write(job.report) as file:
        file.write(text.encode())
    repairs = {str(each.evidence["rule"]): each.repair for each in page.findings if "rule" in each.evidence}
    sagemaker.build(job, page.speed, {rule: repair for rule, repair in repairs.items() if repair})


def gather(job: JobFolder) -> Page:
    """All that the page says; the same folder always gives the same page."""
    notes: list[str] = []
    status = _read(job.status, Status, notes)
    raw = _json(job.spec, notes)
    spec = _spec(job, raw, notes)
    used = _read(job.plan, ClassifierSpec, notes) or (spec if isinstance(spec, ClassifierSpec) else None)
    index = _read(job.index, Index, notes)
    profiled, slow = _profiled(job, notes)
    limit = profiled.verdict if profiled else None
    findings = _findings(job, slow, notes)
    curves, time = _recorded(job, notes)
    data = _data(index) if index else None
    results = tuple(_result(each) for each in _evaluations(job, notes))
    outcome = _read(job.script, ScriptOutcome, notes)
    failure = _failure(job, status, outcome)
    ran = None
    if isinstance(spec, ScriptSpec):
        ran = script.gather(job, spec, status, outcome, curves)
        curves = script.in_order(curves, spec)
        overview = script.overview(job.name, spec, status, ran, failure, watched=(findings, curves, limit))
    else:
        overview = words.overview(
            job.name,
            status,
            spec,
            used,
            data,
            curves,
            time,
            results,
            findings,
            failure,
            limit,
            checked=job.check.is_file() or job.findings.is_file(),
        )
    if raw.get("kind") == "loop":
        overview = overview.model_copy(update={"trained": words.watched_loop(raw, status, curves)})
    return Page(
        job=job.name,
        state=status.state if status else None,
        overview=overview,
        findings=tuple(findings or ()),
        data=data,
        curves=curves,
        evidence=_seen(lambda: evidence.gather(findings or (), curves, job.records), notes) or (),
        tensors=_seen(lambda: tensors.gather(job.records), notes),
        time=time,
        speed=profiled,
        machine=_seen(lambda: machine.gather(job.records), notes),
        results=results,
        run=_run(job, raw, spec, used, status, notes),
        script=ran,
        failure=failure,
        notes=tuple(notes),
    )


def _spec(job: JobFolder, raw: dict[str, Any], notes: list[str]) -> JobSpec | None:
    kinds: dict[str, type[JobSpec]] = {"classifier": ClassifierSpec, "script": ScriptSpec}
    kind = kinds.get(str(raw.get("kind")))
    return _read(job.spec, kind, notes) if kind else None


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read: {error}")
        return {}
    if not isinstance(document, dict):
        notes.append(f"{path.name} cannot be read: it holds no JSON object")
        return {}
    return document


def _read(path: Path, kind: type[AnyFrozen], notes: list[str]) -> AnyFrozen | None:
    try:
        return kind.read(path)
    except FileNotFoundError:
        return None
    except (OSError, RequestError) as error:
        notes.append(f"{path.name} cannot be read: {str(error).removeprefix(str(path) + ': ')}")
        return None


def _seen(gathered: Callable[[], AnyPart], notes: list[str]) -> AnyPart | None:
    """A part of the page out of the records, or None and a note where they cannot be read."""
    try:
        return gathered()
    except (OSError, HoundsightError, ValueError, KeyError, TypeError) as error:
        notes.append(f"records cannot be read: {error}")
        return None


def _profiled(job: JobFolder, notes: list[str]) -> tuple[Speed | None, tuple[Finding, ...]]:
    document = _json(job.profile, notes)
    return _seen(lambda: speed.gather(document, job.records), notes) or (None, ())


def _findings(job: JobFolder, slow: Sequence[Finding], notes: list[str]) -> list[Finding] | None:
    """What the check and the rules wrote, with `slow` of the profiler, errors first; None where nobody has looked."""
    looked = [path for path in (job.check, job.findings) if path.is_file()]
    found: list[Finding] = [*slow]
    for path in looked:
        held = _json(path, notes).get("findings", [])
        try:
            found += [Finding.create(**each) for each in held]
        except (RequestError, TypeError) as error:
            notes.append(f"{path.name} cannot be read: {error}")
    rank = {"error": 0, "warning": 1, "info": 2}
    found.sort(key=lambda each: (each.status != "IssuesFound", rank[each.severity]))
    return found if looked or slow else None


def _recorded(job: JobFolder, notes: list[str]) -> tuple[tuple[Curve, ...], TimeUse | None]:
    if not job.records.is_dir():
        return (), None
    try:
        scalars: list[Scalar] = []
        spans: list[Span] = []
        for event in Records(job.records):
            if isinstance(event, Scalar):
                scalars.append(event)
            else:
                spans.append(event)
        spans += Records(job.records / LOOP).spans() if (job.records / LOOP).is_dir() else ()
        return series.curves(scalars), series.time_use(spans)
    except (OSError, RequestError) as error:
        notes.append(f"records cannot be read: {error}")
        return (), None


def _data(index: Index) -> DataTable:
    tallies: dict[SplitName, Counter[int]] = {name: Counter(split.labels) for name, split in index.splits.items()}
    return DataTable(
        root=index.root,
        fingerprint=index.fingerprint,
        split_seed=index.split_seed,
        images={name: len(split) for name, split in index.splits.items()},
        bytes={name: sum(split.sizes) for name, split in index.splits.items()},
        classes=tuple(
            ClassCount(name=name, counts={split: tally[label] for split, tally in tallies.items()})
            for label, name in enumerate(index.classes)
        ),
        rejected=len(index.rejects),
        rejects=index.rejects[:REJECTS],
    )


def _evaluations(job: JobFolder, notes: list[str]) -> list[Evaluation]:
    found = [_read(job.evaluation / f"{split}.json", Evaluation, notes) for split in ("test", "valid")]
    return [each for each in found if each is not None]


def _result(evaluation: Evaluation) -> Result:
    totals = [sum(row) for row in evaluation.confusion]
    cells = [
        Cell(label=row, predicted=column, count=count, share=series.significant(count / totals[row]))
        for row, counts in enumerate(evaluation.confusion)
        for column, count in enumerate(counts)
        if count
    ]
    kept = sorted(sorted(cells, key=lambda each: -each.count)[:CELLS], key=lambda each: (each.label, each.predicted))
    wrong = sorted(
        (each for each in cells if each.label != each.predicted), key=lambda each: (-each.count, -each.share)
    )
    pairs = [
        Confused(
            label=evaluation.classes[each.label],
            predicted=evaluation.classes[each.predicted],
            count=each.count,
            of=totals[each.label],
            back=evaluation.confusion[each.predicted][each.label],
        )
        for each in wrong[:PAIRS]
    ]
    return Result(
        split=evaluation.split,
        images=sum(totals),
        classes=evaluation.classes,
        metrics=evaluation.metrics,
        per_class=evaluation.per_class,
        cells=tuple(kept),
        cells_left_out=len(cells) - len(kept),
        confused=tuple(pairs),
        temperature=evaluation.temperature,
        reliability=evaluation.reliability,
        reliability_uncalibrated=evaluation.reliability_uncalibrated,
        mistakes=evaluation.mistakes,
    )


def _run(
    job: JobFolder,
    raw: dict[str, Any],
    spec: JobSpec | None,
    used: ClassifierSpec | None,
    status: Status | None,
    notes: list[str],
) -> Run | None:
    if not raw:
        return None
    card = _read(job.model / "model.json", ModelCard, notes)
    facts: dict[str, str] = {}
    if card is not None:
        facts |= {"weights": card.weights_source or "–", "licence of the weights": card.weights_licence}
        side = card.preprocess.image_size
        facts["input"] = f"{side} x {side} pixels, cut from {card.preprocess.resize} after the resize"
    if status is not None:
        facts["back end"] = status.backend
        facts |= {what: _moment(when) for what, when in (("started", status.started), ("ended", status.ended)) if when}
    return Run(
        kind=str(raw.get("kind", "")),
        settings=_settings(spec, used or spec) if spec else _plain_settings(raw),
        facts=facts,
        versions=card.versions if card else {},
        repeat=commands.repeat(spec) if spec else "",
    )


def _settings(spec: JobSpec, used: JobSpec) -> tuple[Setting, ...]:
    """Every setting as it was used; of environment variables, which may be secrets, the names alone."""
    rows = []
    for name, field in type(used).model_fields.items():
        value = getattr(used, name)
        if name == "kind":
            continue
        if name == "environment":
            value = list(value)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        origin: Literal["given", "decided", "default"] = "default"
        if name in spec.model_fields_set:
            origin = "given"
        elif value != default and value:
            origin = "decided"
        rows.append(Setting(name=name, value=value, default=default, origin=origin, meaning=field.description or ""))
    return tuple(sorted(rows, key=lambda row: ("given", "decided", "default").index(row.origin)))


def _plain_settings(raw: dict[str, Any]) -> tuple[Setting, ...]:
    rows = words.flat(raw)
    return tuple(
        Setting(name=name, value=value, default=None, origin="given", meaning="")
        for name, value in rows.items()
        if name != "kind"
    )


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _failure(job: JobFolder, status: Status | None, outcome: ScriptOutcome | None) -> Failure | None:
    if status is None or status.state != "FAILED":
        return None
    error = status.error or {}
    said = job.failure.read_text(errors="replace").strip() if job.failure.is_file() else ""
    message = error.get("message") or status.reason or said or "The job failed without saying why."
    place = None
    if outcome is not None and outcome.error:
        message, place = outcome.error, outcome.failed_at
    lines, marked = log.around(job.log, message, f'{place.file}", line {place.line}' if place else "")
    return Failure(
        kind=error.get("kind", ""),
        message=message,
        repair=error.get("repair", ""),
        log=lines,
        marked=marked,
        place=place,
        said=said if said not in (message, status.reason) or outcome is not None else "",
    )
