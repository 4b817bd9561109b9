"""Houndsight: from a folder of labelled images to a tuned, inspected and deployed classifier."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from houndsight.errors import HoundsightError
    from houndsight.serving.client import Endpoint
    from houndsight.verbs.batch import predict_folder
    from houndsight.verbs.check import check
    from houndsight.verbs.debug import debug
    from houndsight.verbs.endpoints import Deployment, delete_endpoint, deploy, endpoints, invoke, open_endpoint
    from houndsight.verbs.evaluate import evaluate
    from houndsight.verbs.export import export
    from houndsight.verbs.job import Job, jobs, open_job, stop
    from houndsight.verbs.predict import predict
    from houndsight.verbs.profile import profile
    from houndsight.verbs.repack import repack
    from houndsight.verbs.replay import replay
    from houndsight.verbs.report import report
    from houndsight.verbs.run import run
    from houndsight.verbs.train import resume, train
    from houndsight.verbs.tune import open_tuning, resume_tuning, tune, tunings
    from houndsight.verbs.tuning_job import TuningJob
    from houndsight.verbs.weights import add_weights, fetch_weights, list_weights

__all__ = [
    "Deployment",
    "Endpoint",
    "HoundsightError",
    "Job",
    "TuningJob",
    "add_weights",
    "check",
    "debug",
    "delete_endpoint",
    "deploy",
    "endpoints",
    "evaluate",
    "export",
    "fetch_weights",
    "invoke",
    "jobs",
    "list_weights",
    "open_endpoint",
    "open_job",
    "open_tuning",
    "predict",
    "predict_folder",
    "profile",
    "repack",
    "replay",
    "report",
    "resume",
    "resume_tuning",
    "run",
    "stop",
    "train",
    "tune",
    "tunings",
]

_HOMES = {
    "Deployment": "verbs.endpoints",
    "Endpoint": "serving.client",
    "HoundsightError": "errors",
    "Job": "verbs.job",
    "TuningJob": "verbs.tuning_job",
    "add_weights": "verbs.weights",
    "check": "verbs.check",
    "debug": "verbs.debug",
    "delete_endpoint": "verbs.endpoints",
    "deploy": "verbs.endpoints",
    "endpoints": "verbs.endpoints",
    "evaluate": "verbs.evaluate",
    "export": "verbs.export",
    "fetch_weights": "verbs.weights",
    "invoke": "verbs.endpoints",
    "jobs": "verbs.job",
    "list_weights": "verbs.weights",
    "open_endpoint": "verbs.endpoints",
    "open_job": "verbs.job",
    "open_tuning": "verbs.tune",
    "predict": "verbs.predict",
    "predict_folder": "verbs.batch",
    "profile": "verbs.profile",
    "repack": "verbs.repack",
    "replay": "verbs.replay",
    "report": "verbs.report",
    "resume": "verbs.train",
    "resume_tuning": "verbs.tune",
    "run": "verbs.run",
    "stop": "verbs.job",
    "train": "verbs.train",
    "tune": "verbs.tune",
    "tunings": "verbs.tune",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used: `import houndsight` alone loads nothing, torch least of all."""
    if name not in _HOMES:
        raise AttributeError(f"module 'houndsight' has no attribute {name!r}")
    return getattr(import_module(f"houndsight.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
