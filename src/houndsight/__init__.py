"""Houndsight: from a folder of labelled images to a tuned, inspected and deployed classifier."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from houndsight.errors import HoundsightError
    from houndsight.verbs.check import check
    from houndsight.verbs.evaluate import evaluate
    from houndsight.verbs.job import Job, jobs, open_job, stop
    from houndsight.verbs.predict import predict
    from houndsight.verbs.report import report
    from houndsight.verbs.run import run
    from houndsight.verbs.train import resume, train
    from houndsight.verbs.weights import add_weights, fetch_weights, list_weights

__all__ = [
    "HoundsightError",
    "Job",
    "add_weights",
    "check",
    "evaluate",
    "fetch_weights",
    "jobs",
    "list_weights",
    "open_job",
    "predict",
    "report",
    "resume",
    "run",
    "stop",
    "train",
]

_HOMES = {
    "HoundsightError": "errors",
    "Job": "verbs.job",
    "add_weights": "verbs.weights",
    "check": "verbs.check",
    "evaluate": "verbs.evaluate",
    "fetch_weights": "verbs.weights",
    "jobs": "verbs.job",
    "list_weights": "verbs.weights",
    "open_job": "verbs.job",
    "predict": "verbs.predict",
    "report": "verbs.report",
    "resume": "verbs.train",
    "run": "verbs.run",
    "stop": "verbs.job",
    "train": "verbs.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used: `import houndsight` alone loads nothing, torch least of all."""
    if name not in _HOMES:
        raise AttributeError(f"module 'houndsight' has no attribute {name!r}")
    return getattr(import_module(f"houndsight.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
