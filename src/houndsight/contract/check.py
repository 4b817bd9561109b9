"""Everything that can be known to be wrong with a script job before anything of it is made."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from houndsight.contract.environment import OURS
from houndsight.contract.program import opt_ml_problems
from houndsight.contract.source import MOST_BYTES, to_copy
from houndsight.errors import did_you_mean
from houndsight.spec import ScriptSpec

MOST_HYPERPARAMETERS, LONGEST_KEY, LONGEST_VALUE = 100, 256, 2500
MOST_METRICS, LONGEST_METRIC, LONGEST_EXPRESSION = 40, 255, 500
MOST_CHANNELS = 20
"""SageMaker's own limits (botocore's service model)."""
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAUNCHERS = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)


def problems(spec: ScriptSpec) -> list[str]:
    """All that is wrong with the spec, a sentence each that names the setting, the value and the repair."""
    return [
        *_entry_point(spec),
        *_channels(spec.channels),
        *_hyperparameters(spec.hyperparameters),
        *metric_problems(spec.metrics),
        *_environment(spec.environment),
        *_opt_ml(spec),
    ]


def _entry_point(spec: ScriptSpec) -> Iterator[str]:
    root = Path(spec.source_dir)
    script = root / spec.entry_point
    if not root.is_dir():
        yield f"source_dir: there is no folder '{root}'. {_near(root)}".strip()
    elif Path(spec.entry_point).is_absolute() or not script.resolve().is_relative_to(root.resolve()):
        yield f"entry_point: '{spec.entry_point}' is not inside '{root}'."
    elif spec.entry_point.startswith("-"):
        yield f"entry_point: '{spec.entry_point}' begins with a hyphen, which is read as an option; rename it."
    elif script.is_dir():
        yield f"entry_point: '{script}' is a folder; name the script in it, and the folder as source_dir."
    elif not script.is_file():
        yield f"entry_point: there is no file '{script}'. {_near(script)}".strip()
    elif not os.access(script, os.R_OK):
        yield f"entry_point: '{script}' cannot be read."
    elif not spec.alone:
        yield from _too_large(spec)


def _opt_ml(spec: ScriptSpec) -> list[str]:
    return opt_ml_problems(spec, to_copy(spec)) if (Path(spec.source_dir) / spec.entry_point).is_file() else []


def _too_large(spec: ScriptSpec) -> Iterator[str]:
    sizes: dict[str, int] = {}
    root = Path(spec.source_dir)
    for file in to_copy(spec):
        if not file.is_dir():
            top = file.relative_to(root).parts[0]
            sizes[top] = sizes.get(top, 0) + file.stat().st_size
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        yield (
            f"source_dir: '{root}' holds {sum(sizes.values()) / 1e9:.1f} GB, which every job would copy; the most of "
            f"it is '{largest}'. Name a folder with code only, or give '{largest}' as a channel: those are linked."
        )


def _near(path: Path) -> str:
    try:
        beside = [each.name for each in path.parent.iterdir()]
    except OSError:
        return f"Not even its folder '{path.parent}' is there."
    return did_you_mean(path.name, beside)


def is_elsewhere(channel: str) -> bool:
    """Whether a channel is fetched or unpacked before the start: an address, or a zip on this machine."""
    return "://" in channel or (channel.endswith(".zip") and Path(channel).is_file())


def _channels(channels: Mapping[str, str]) -> Iterator[str]:
    if len(channels) > MOST_CHANNELS:
        yield f"channels: {len(channels)} are given, SageMaker takes {MOST_CHANNELS}."
    upper: dict[str, str] = {}
    for name, folder in channels.items():
        if not _CHANNEL.fullmatch(name) or name.strip(".") == "":
            yield f"channels: '{name}' is no name; use 1 to 64 letters, digits, dots, hyphens and underscores."
        other = upper.setdefault(name.upper(), name)
        if other != name:
            yield f"channels: '{other}' and '{name}' would share SM_CHANNEL_{name.upper()}; rename one."
        if is_elsewhere(folder):
            continue  # what it holds is seen when it is fetched
        if Path(folder).is_file():
            yield f"channels.{name}: '{folder}' is a file; give the folder that holds it."
        elif not Path(folder).is_dir():
            yield f"channels.{name}: there is no folder '{folder}'. {_near(Path(folder))}".strip()


def _hyperparameters(hyperparameters: Mapping[str, Any]) -> Iterator[str]:
    if len(hyperparameters) > MOST_HYPERPARAMETERS:
        yield f"hyperparameters: {len(hyperparameters)} are given, SageMaker takes {MOST_HYPERPARAMETERS}."
    for name, value in hyperparameters.items():
        if not name or len(name) > LONGEST_KEY:
            yield f"hyperparameters: '{name[:40]}' has {len(name)} characters; names have 1 to {LONGEST_KEY}."
        if "=" in name or "\0" in name:
            yield f"hyperparameters: '{name}' holds a character that no environment variable can have in its name."
        try:
            sent = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            yield f"hyperparameters.{name}: {value!r} is no JSON value ({error})."
            continue
        if len(sent) > LONGEST_VALUE:
            yield f"hyperparameters.{name}: {len(sent)} characters as JSON, SageMaker takes {LONGEST_VALUE}."
        if "\\u0000" in sent:
            yield f"hyperparameters.{name}: holds a NUL character, which no argument can."
        if name in _LAUNCHERS and value not in (False, "false", None):
            yield f"hyperparameters.{name}: a script job runs as one process; leave it out."


def metric_problems(metrics: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with metrics: too many, no name, no expression, no group."""
    if len(metrics) > MOST_METRICS:
        yield f"metrics: {len(metrics)} are given, SageMaker takes {MOST_METRICS}."
    for name, expression in metrics.items():
        if not name or len(name) > LONGEST_METRIC:
            yield f"metrics: '{name[:40]}' has {len(name)} characters; names have 1 to {LONGEST_METRIC}."
        if not expression or len(expression) > LONGEST_EXPRESSION:
            yield f"metrics.{name}: an expression has 1 to {LONGEST_EXPRESSION} characters, this one {len(expression)}."
            continue
        try:
            groups = re.compile(expression).groups
        except (re.error, RecursionError, OverflowError) as error:
            yield f"metrics.{name}: '{expression}' is no regular expression: {error}."
            continue
        if groups < 1:
            yield f"metrics.{name}: '{expression}' has no group; put brackets around the number: ([0-9.]+)."


def _environment(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name):
            yield f"environment: '{name}' is no name of a variable; use letters, digits and underscores."
        elif name.startswith(("SM_", "SAGEMAKER_")) or name in OURS:
            yield f"environment.{name}: the training contract sets it; leave it out."
        elif "\0" in value:
            yield f"environment.{name}: holds a NUL character, which no variable can."
