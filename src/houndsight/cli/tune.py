"""`houndsight tune`: from flags to a search, followed until it ends."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from cyclopts import Group, Parameter

from houndsight.cli.flags import Cold, Json, Place
from houndsight.cli.output import document, failed, note, say
from houndsight.cli.run import Pairs, _channels, _pairs, _value
from houndsight.cli.script_flags import SURROUNDINGS, Surroundings, _document
from houndsight.cli.settings import Settings, as_settings, flag_of
from houndsight.cli.trials import follow, summary
from houndsight.errors import RequestError, SpecError
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.written import read_file
from houndsight.verbs import tune as verbs
from houndsight.verbs.tuning_job import TuningJob
from houndsight.workspace import remove_tree

Word = str | None
SEARCH = (
    *("strategy", "goal", "jobs", "parallel", "minutes", "budget", "pruning", "reduction", "first_rung"),
    *("reseed", "final"),
)
"""Settings of the search that have a flag of their own."""

if TYPE_CHECKING:
    Search = dict[str, str]
else:
    Search = TypedDict(
        "Search", {name: flag_of(TuningSpec.model_fields[name], Group("Search")) for name in SEARCH}, total=False
    )


@Parameter(name="*")
@dataclass(frozen=True)
class OfScript:
    """What only a search over a script has."""

    channel: Annotated[Pairs, Parameter(metavar="NAME=DIR", help="Of a script: data of a channel.")] = None
    hp: Annotated[Pairs, Parameter(metavar="NAME=VALUE", help="Of a script: hyperparameter that stays as it is.")] = (
        None
    )
    metric: Annotated[Pairs, Parameter(metavar="NAME=REGEX", help="Of a script: number to look for.")] = None
    env: Annotated[Pairs, Parameter(metavar="NAME=VALUE", help="Of a script: environment variable.")] = None
    source_dir: Annotated[Word, Parameter(metavar="DIR", help="Of a script: folder of its code.")] = None
    hook_config: Annotated[
        Word, Parameter(metavar="FILE", help="Of a script: SageMaker's DebugHookConfig as JSON.")
    ] = None

    def settings(self) -> dict[str, Any]:
        """As `houndsight.tune` takes them; nothing where none of it is given."""
        found: dict[str, Any] = {}
        if self.channel or self.hp or self.metric or self.env:
            found = {
                "channels": _channels(self.channel),
                "hyperparameters": {key: _value(text) for key, text in _pairs("hp", self.hp).items()},
                "metrics": _pairs("metric", self.metric),
                "environment": _pairs("env", self.env),
            }
        if self.source_dir is not None:
            found["source_dir"] = self.source_dir
        if self.hook_config is not None:
            found["hook_config"] = _document("hook-config", self.hook_config)
        return found


NO_SCRIPT = OfScript()


def tune(
    what: Annotated[Word, Parameter(help="Folder of images as for `houndsight train`, or a training script.")] = None,
    /,
    *,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    param: Annotated[
        Pairs,
        Parameter(
            metavar="NAME=RANGE",
            help="What is searched: lr=log:1e-4..1e-1, epochs=int:5..15, batch_size=32,64, "
            "'momentum=0.8..0.99 if optimizer=sgd'.",
        ),
    ] = None,
    preset: Annotated[Word, Parameter(metavar="NAME", help="A space that is ready; --param adds to it.")] = None,
    space: Annotated[
        Pairs, Parameter(metavar="FILE", help="The space as a JSON or TOML file; or NAME=RANGE, as --param.")
    ] = None,
    search: Annotated[Search | None, Parameter(name="*")] = None,
    objective: Annotated[
        Word, Parameter(help="What is compared: valid:accuracy, valid:loss, ...; of a script NAME=REGEX or a --metric.")
    ] = None,
    minimize: Annotated[bool, Parameter(negative="--maximize", help="A lower, or higher, objective is better.")]
    | None = None,
    trials: Annotated[int | None, Parameter(metavar="N", help="As --jobs: how many trials.")] = None,
    start_from: Annotated[
        Word, Parameter(name="--from", metavar="TUNING", help="Begin with what that tuning found.")
    ] = None,
    script: OfScript = NO_SCRIPT,
    surroundings: Surroundings = SURROUNDINGS,
    name: Annotated[Word, Parameter(help="Name of the tuning; its jobs are NAME-000, NAME-001, ...")] = None,
    resume: Annotated[Word, Parameter(metavar="TUNING", help="Go on with a tuning that was stopped or died.")] = None,
    detach: Annotated[bool, Parameter(help="Return at once; the search goes on alone.")] = False,
    cold: Cold = False,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Search hyperparameters: every trial is a job of its own.

    The search runs in a process of its own: closing the terminal does not end it, Ctrl-C stops it cleanly, and
    --resume goes on with it. Trials never see the test split.
    """
    if resume is not None:
        found = verbs.resume_tuning(resume, workspace=workspace, wait=False)
        return _finish(found, fresh=False, detach=detach, json=json)
    if what is None:
        raise SpecError(
            "Nothing was given to tune.", "Type `houndsight tune FOLDER --preset head`, or --resume TUNING."
        )
    plain = SURROUNDINGS.settings()
    beside = {key: value for key, value in surroundings.settings().items() if value != plain[key]}
    job = {**as_settings(settings), **script.settings(), **beside}
    about = {"preset": preset, "objective": objective, "start_from": start_from, "name": name}
    search = {**_search(minimize, trials), **(search or {})}
    given: dict[str, Any] = {
        key: value for key, value in {**about, "cold": cold or None, **search}.items() if value is not None
    }
    found = verbs.tune(what, _space(param, space or []), workspace=workspace, wait=False, **given, **job)
    return _finish(found, fresh=True, detach=detach, json=json)


def _search(minimize: bool | None, trials: int | None) -> dict[str, Any]:
    """What has a shorter flag beside that of its setting."""
    goal = None if minimize is None else "minimize" if minimize else "maximize"
    return {name: value for name, value in (("goal", goal), ("jobs", trials)) if value is not None}


def _space(param: Pairs, given: list[str]) -> Any:
    """The flags, or the file with the flags over it; a file's name holds no `=` unless there is such a file."""
    files = [each for each in given if "=" not in each or Path(each).is_file()]
    param = [*(param or []), *(each for each in given if each not in files)]
    if len(files) > 1:
        raise SpecError("--space names two files.", "Give one file, or NAME=RANGE.")
    return {**read_file(files[0]), **_pairs("param", param)} if files else param


def _finish(found: TuningJob, *, fresh: bool, detach: bool, json: bool) -> int:
    """Follow the search unless it is to run alone, then print what came of it; returns the exit code."""
    note(f"{'Tuning' if fresh else 'Going on with tuning'} {found.name} in {found.folder}")
    if detach:
        if json:
            document(found.document())
        else:
            say(f"{found.name} runs on its own. `houndsight jobs` shows how far it is.")
        return 0
    interrupted = follow(found)
    error = found.error
    if fresh and isinstance(error, RequestError):
        remove_tree(found.folder)
        raise error
    if json:
        document(found.document())
    elif error is not None:
        failed(error, as_json=False)
    elif not interrupted:
        summary(found)
    if error is not None:
        return error.exit_code
    return 0 if found.state == "COMPLETED" else 1
