"""`houndsight run`: a training script written for SageMaker as a job, followed until it ends."""

import json as json_
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.finish import finish, heading, results
from houndsight.cli.flags import Cold, Json, Place
from houndsight.cli.output import note, say, table
from houndsight.cli.script_flags import SURROUNDINGS, WATCHING, Surroundings, Watching
from houndsight.errors import SpecError
from houndsight.reports.ran import ScriptOutcome
from houndsight.verbs import run as verbs
from houndsight.verbs.job import Job

Pairs = list[str] | None


def run(
    script: Annotated[str, Parameter(help="The training script.")],
    /,
    *,
    channel: Annotated[
        Pairs,
        Parameter(
            metavar="NAME=DIR",
            help="Data of a channel: a folder, a zip, or an address (s3, http); alone it is the channel 'training'.",
        ),
    ] = None,
    hp: Annotated[
        Pairs, Parameter(metavar="NAME=VALUE", help="Hyperparameter; JSON where it is JSON, else text.")
    ] = None,
    metric: Annotated[
        Pairs,
        Parameter(metavar="NAME=REGEX", help="Number to look for in every line; the first group is the number."),
    ] = None,
    env: Annotated[Pairs, Parameter(metavar="NAME=VALUE", help="Environment variable for the script.")] = None,
    source_dir: Annotated[
        str | None,
        Parameter(
            metavar="DIR",
            help="Folder of the script's code or a sourcedir.tar.gz, copied whole; else the script alone.",
        ),
    ] = None,
    max_minutes: Annotated[float | None, Parameter(metavar="NUMBER", help="Stop the job after so long.")] = None,
    name: Annotated[
        str | None, Parameter(help="Name of the job; a speakable one is made up where none is given.")
    ] = None,
    detach: Annotated[bool, Parameter(help="Return at once; the job goes on alone.")] = False,
    cold: Cold = False,
    given: Surroundings = SURROUNDINGS,
    watched: Watching = WATCHING,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Run a training script written for SageMaker's script mode as a job, as it is.

    --channel, --hp, --metric and --env may be given several times. The job runs in a process of its own: closing the
    terminal does not end it, Ctrl-C stops it.
    """
    job = verbs.run(
        script,
        channels=_channels(channel),
        hyperparameters={key: _value(text) for key, text in _pairs("hp", hp).items()},
        metrics=_pairs("metric", metric),
        environment=_pairs("env", env),
        source_dir=source_dir,
        name=name,
        workspace=workspace,
        max_seconds=None if max_minutes is None else 60 * max_minutes,
        wait=False,
        cold=cold,
        **given.settings(),
        **watched.settings(),
    )
    return finish(job, detach=detach, json=json, summary=_summary, documented=_document, where=_where)


def _pairs(flag: str, given: Pairs) -> dict[str, str]:
    """`name=value` strings as a dictionary; raises `SpecError` for one without `=`, and for a name given twice."""
    pairs: dict[str, str] = {}
    for each in given or ():
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise SpecError(f"--{flag} {each!r} is no NAME=VALUE.", f"Type --{flag} 'name=value'.")
        if name in pairs:
            raise SpecError(f"--{flag} {name} is given twice.", "Leave one out.")
        pairs[name] = value
    return pairs


def _channels(given: Pairs) -> dict[str, str]:
    """A folder without a name is the channel `training`; a folder whose own path holds `=` is still a folder."""
    return _pairs("channel", [each if "=" in each else f"{verbs.DEFAULT_CHANNEL}={each}" for each in given or ()])


def _value(text: str) -> Any:
    try:
        return json_.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are no JSON: the script gets the word


def _outcome(job: Job) -> ScriptOutcome | None:
    return ScriptOutcome.read(job.files.script) if job.files.script.is_file() else None


def _document(job: Job) -> dict[str, Any]:
    """What `--json` prints: the keys of every job, and under `script` how the script ran."""
    outcome = _outcome(job)
    return {**job.document(), "script": None if outcome is None else outcome.model_dump(mode="json")}


def _where(job: Job) -> None:
    """Show the lines of the script around the one that failed."""
    outcome = _outcome(job)
    if outcome is None or outcome.failed_at is None:
        return
    place = outcome.failed_at
    note(f"{place.file}, line {place.line}:")
    for number, line in enumerate(place.excerpt, place.first_line):
        note(f"{'>' if number == place.line else ' '} {number:4} {line}")


def _summary(job: Job) -> None:
    """Write what the metrics came to, where the model lies, and what to type next."""
    heading(job)
    outcome = _outcome(job)
    if outcome is not None and outcome.metrics:
        rows = [
            (f"  {name}", *(_number(each) for each in (metric.last, metric.lowest, metric.highest)), str(metric.count))
            for name, metric in outcome.metrics.items()
        ]
        table(rows, ("  metric", "last", "lowest", "highest", "numbers"))
    results(job)
    say(f"Next: houndsight report {job.name}   or   houndsight logs {job.name}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
