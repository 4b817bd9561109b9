"""Run a training script as a job: from what the SageMaker SDK is given to a running job."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from houndsight import s3
from houndsight.contract.check import problems
from houndsight.contract.source import copy_source
from houndsight.errors import SpecError
from houndsight.records.rules import engine
from houndsight.records.rules.named import named
from houndsight.spec import ScriptSpec
from houndsight.verbs import fetched
from houndsight.verbs.job import Job, backend_named, submit
from houndsight.verbs.train import raise_failure
from houndsight.workspace import Workspace, remove_tree

DEFAULT_CHANNEL = "training"
"""The channel of data that is given without a name, as in the SDK."""


def run(
    script: str | Path,
    *,
    channels: Mapping[str, str | Path] | str | Path | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, str] | None = None,
    source_dir: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    name: str | None = None,
    workspace: str | Path | None = None,
    backend: Literal["local", "inline"] = "local",
    wait: bool = True,
    cold: bool = False,
    s3_endpoint: str | None = None,
    **settings: Any,
) -> Job:
    """Run a training script written for SageMaker's script mode and return its job.

    `channels` are folders by name, or one for the channel `training`; zips, http(s) addresses of zips and s3 addresses
    are fetched into the workspace's cache. `source_dir` may be a sourcedir.tar.gz, on S3 too; that whole folder is
    copied into the job and `script` is relative to it, else the script alone is. `metrics` are regular expressions by
    name; the first group of each is the number. All problems are raised at once as `SpecError` before a job is made.
    With `wait` a failed job raises its error. `cold` starts it without a warm process. `s3_endpoint` is the S3 server
    for channels and for the script itself. `settings` are further fields of `ScriptSpec`: `max_seconds`,
    `instance_type`, `opt_ml`, `allow_requirements`, `trust_pickle`, `checkpoint_config`; `debug`, `hook_config`
    (SageMaker's DebugHookConfig), `rules`, `on_finding` and `profile_interval` of the watcher.
    """
    place = Workspace.find(workspace)
    spec = script_spec(
        script,
        cache=place.cache,
        s3_endpoint=s3_endpoint,
        source_dir=source_dir,
        channels=channels,
        hyperparameters=hyperparameters,
        metrics=metrics,
        environment=environment,
        **settings,
    )
    runner = backend_named(backend, cold=cold)
    files = place.create(spec, name, backend)
    try:
        copy_source(spec, files)  # now: the script may be changed before the job begins
        job = submit(files, runner)
    except BaseException:
        remove_tree(files.path)
        raise
    if wait:
        job.wait()
        raise_failure(job, fresh=True)
    return job


def script_spec(
    script: str | Path,
    *,
    source_dir: str | Path | None = None,
    channels: Mapping[str, str | Path] | str | Path | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    s3_endpoint: str | None = None,
    cache: Path | None = None,
    **others: Any,
) -> ScriptSpec:
    """The spec of a script job; raises `SpecError` with every problem that can be known before it runs.

    What lies elsewhere is fetched into `cache` (the workspace's own by default), channels only when all else is right.
    """
    cache = cache or Workspace.find(None).cache
    with s3.at(s3_endpoint):
        environment = {**fetched.server(s3_endpoint), **(environment or {})}
        spec = _checked(script, source_dir, channels, hyperparameters, metrics, environment, cache, others)
        return spec.model_copy(update={"channels": fetched.channels(spec.channels, cache)})


def _checked(
    script: str | Path,
    source_dir: str | Path | None,
    channels: Mapping[str, str | Path] | str | Path | None,
    hyperparameters: Mapping[str, Any] | None,
    metrics: Mapping[str, str] | None,
    environment: Mapping[str, str],
    cache: Path,
    others: dict[str, Any],
) -> ScriptSpec:
    settings: dict[str, Any] = {
        **_place(Path(script).expanduser(), source_dir, cache),
        "channels": _channels(channels),
        "hyperparameters": {str(key): value for key, value in (hyperparameters or {}).items()},
        "metrics": {str(name): str(expression) for name, expression in (metrics or {}).items()},
        "environment": {str(name): str(value) for name, value in environment.items()},
        **{key: value for key, value in others.items() if value != _default(key)},
    }
    found = problems(ScriptSpec.model_construct(**settings))
    try:
        settings["rules"] = tuple(settings.get("rules", ()))
        engine.check(named(settings["rules"]).debugger, settings.get("on_finding", "none"))
    except SpecError as error:
        found.append(str(error))
    try:
        # Without what `problems` has been through: 41 metrics need no listing.
        spec = ScriptSpec.create(**{**settings, "metrics": {}})
    except SpecError as error:
        found.append(error.message.partition("wrong: ")[2])
    if found:
        count = "One setting is" if len(found) == 1 else f"{len(found)} settings are"
        raise SpecError(f"{count} wrong: " + "; ".join(each.removesuffix(".") for each in found) + ".")
    # As they will be read again: a tuple is a list, a number of numpy is a number.
    hyperparameters = json.loads(json.dumps(settings["hyperparameters"]))
    return spec.model_copy(update={"hyperparameters": hyperparameters, "metrics": settings["metrics"]})


def _default(setting: str) -> Any:
    field = ScriptSpec.model_fields.get(setting)
    return None if field is None else field.default


def _place(script: Path, source_dir: str | Path | None, cache: Path) -> dict[str, Any]:
    if source_dir is None:
        script = script.absolute()
        return {"entry_point": script.name, "source_dir": str(script.parent), "alone": True}
    root = fetched.code(str(source_dir), cache)
    inside = not script.is_absolute() and (root / script).is_file()
    if not inside and script.absolute().is_relative_to(root):
        script = script.absolute().relative_to(root)
    return {"entry_point": str(script), "source_dir": str(root)}


def _channels(given: Mapping[str, str | Path] | str | Path | None) -> dict[str, str]:
    if given is None:
        return {}
    named = given if isinstance(given, Mapping) else {DEFAULT_CHANNEL: given}
    return {str(name): _absolute(str(folder).removeprefix("file://")) for name, folder in named.items()}


def _absolute(folder: str) -> str:
    return folder if "://" in folder else str(Path(folder).expanduser().absolute())
