"""From hyperparameters to what a script reads of them: the arguments and the JSON of `sagemaker-training`.

The encoding is that of the PyPI package sagemaker-training 5.1.4 (`mapping.py`, `params.py`); the differential test
runs both on one configuration folder.
"""

import json
from collections.abc import Mapping
from typing import Any

SAGEMAKER_PREFIX = "sagemaker_"
SAGEMAKER_ONLY = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_region",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "default_user_module_name",
        "_tuning_objective_metric",
        "sagemaker_s3_output",
    }
)
"""Hyperparameters that the toolkit reads itself; neither the script nor SM_FRAMEWORK_PARAMS gets them."""


def as_sent(hyperparameters: Mapping[str, Any]) -> dict[str, str]:
    """The values as the SageMaker SDK sends them: each the JSON of itself."""
    return {name: json.dumps(value) for name, value in hyperparameters.items()}


def as_read(sent: Mapping[str, str]) -> dict[str, Any]:
    """The values of `hyperparameters.json` as the toolkit reads them: JSON, else the string itself."""
    return {name: _decoded(text) for name, text in sent.items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def split(hyperparameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take apart what the script is given and the framework's own parameters (`SM_FRAMEWORK_PARAMS`)."""
    own = {
        name: value
        for name, value in hyperparameters.items()
        if name in SAGEMAKER_ONLY or name.startswith(SAGEMAKER_PREFIX)
    }
    script = {name: value for name, value in hyperparameters.items() if name not in own}
    return script, {name: value for name, value in own.items() if name not in SAGEMAKER_ONLY}


def arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """`--name value` for every hyperparameter, sorted by name; `-n value` where the name has one letter."""
    words = []
    for name in sorted(hyperparameters):
        words += [f"--{name}" if len(name) > 1 else f"-{name}", _word(hyperparameters[name])]
    return words


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={each}" for key, each in sorted(value.items()))
    return "" if value is None else str(value)


def variable(value: Any) -> str:
    """A value as an environment variable: a string as it is, nothing for None, else compact JSON with sorted keys."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
