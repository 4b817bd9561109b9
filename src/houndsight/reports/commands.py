"""What to type next: the same run again, another one, or what goes on with this one."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from houndsight.reports.page import Command
from houndsight.spec import ClassifierSpec, JobSpec, ScriptSpec, Status


def after(name: str, status: Status | None, spec: JobSpec | None, used: ClassifierSpec | None) -> tuple[Command, ...]:
    """The commands for a job of that name; `used` are the settings that it came to use."""
    state = status.state if status else None
    if state in {"QUEUED", "RUNNING", "STOPPING"}:
        return (
            Command(purpose="Follow it", command=f"houndsight logs {name} -f"),
            Command(purpose="Stop it, keeping what it learned", command=f"houndsight stop {name}"),
            Command(purpose="Bring this page up to date", command=f"houndsight report {name}"),
        )
    read = Command(purpose="Read the whole log", command=f"houndsight logs {name}")
    if isinstance(spec, ScriptSpec):
        again = Command(purpose="Run it again", command=repeat(spec))
        return (read,) if state == "COMPLETED" else (read, again)
    if state == "COMPLETED":
        commands = [
            Command(purpose="Classify images", command=f"houndsight predict {name} photo.jpg"),
            Command(purpose="Measure it on other data", command=f"houndsight evaluate {name} DATA"),
        ]
        if used is not None and used.freeze == "all":
            commands.append(Command(purpose="Train all layers: slower, often better", command=_deeper(used)))
        return tuple(commands)
    if state in {"FAILED", "STOPPED"} and spec is not None:
        return (Command(purpose="Go on from the last checkpoint", command=f"houndsight train --resume {name}"), read)
    return (read,)


def _deeper(used: ClassifierSpec) -> str:
    """The same network on the same data with all its layers trained."""
    kept = [name for name in ("backbone", "weights", "image_size") if name in used.model_fields_set]
    return shlex.join(["houndsight", "train", used.data, *_flags(used, kept), "--recipe", "lp-ft"])


def repeat(spec: JobSpec) -> str:
    """The command line that asks for the same job again: every setting that was given.

    The values of environment variables are left out: they may be secrets.
    """
    if isinstance(spec, ClassifierSpec):
        given = [name for name in type(spec).model_fields if name in spec.model_fields_set - {"kind", "data"}]
        return shlex.join(["houndsight", "train", spec.data, *_flags(spec, given)])
    script = f"{spec.source_dir.rstrip('/')}/{spec.entry_point}"
    parts = ["houndsight", "run", script]
    parts += [] if spec.alone else ["--source-dir", spec.source_dir]
    for flag, pairs in (("channel", spec.channels), ("hp", spec.hyperparameters), ("metric", spec.metrics)):
        for key, value in pairs.items():
            parts += [f"--{flag}", f"{key}={_typed(value) if flag == 'hp' else value}"]
    for key in spec.environment:
        parts += ["--env", f"{key}=..."]
    if spec.max_seconds is not None:
        parts += ["--max-minutes", f"{spec.max_seconds / 60:g}"]
    for flag in ("debug", "on_finding", "profile_interval", "opt_ml"):
        if getattr(spec, flag) != type(spec).model_fields[flag].default:
            parts += [f"--{flag.replace('_', '-')}", f"{getattr(spec, flag)}"]
    parts += [word for rule in spec.rules for word in ("--rule", rule)]
    parts += [f"--{flag.replace('_', '-')}" for flag in ("allow_requirements", "trust_pickle") if getattr(spec, flag)]
    parts += ["--hook-config", "..."] if spec.hook_config is not None else []
    return shlex.join(parts)


def _typed(value: Any) -> str:
    """A hyperparameter as it is typed: JSON, or text where that is not taken for JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value, parse_constant=_no_json)
    except ValueError:
        return value
    return json.dumps(value)


def _no_json(constant: str) -> Any:
    raise ValueError(constant)  # NaN and Infinity are text, as in `houndsight run`


def _flags(spec: ClassifierSpec, names: Sequence[str]) -> list[str]:
    parts: list[str] = []
    for name in names:
        value = getattr(spec, name)
        if value is None:
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        parts += [f"--{name.replace('_', '-')}", text]
    return parts
