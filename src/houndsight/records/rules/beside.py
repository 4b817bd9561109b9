"""What stands beside the records in a job's folder and helps the rules: image files, the data check, the settings."""

import json
from collections.abc import Sequence
from typing import Any

from houndsight.folders import JobFolder


def training_files(job: JobFolder) -> Sequence[str]:
    """Paths of the training images by their position, where the job has an index."""
    if not job.index.is_file():
        return ()
    paths: list[str] = json.loads(job.index.read_bytes()).get("splits", {}).get("train", {}).get("paths", [])
    return paths


def checked(job: JobFolder) -> list[dict[str, Any]] | None:
    """What the data check found; None where the data were not checked."""
    if not job.check.is_file():
        return None
    found: list[dict[str, Any]] = json.loads(job.check.read_bytes()).get("findings", [])
    return found


def settings(job: JobFolder) -> dict[str, Any]:
    """What was asked for a job; empty where it is not written down."""
    found: dict[str, Any] = json.loads(job.spec.read_bytes()) if job.spec.is_file() else {}
    return found
