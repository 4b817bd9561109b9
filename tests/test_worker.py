"""Whole jobs of every kind of training on real digits; stopped at every station and killed, they go on bit for bit."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import houndsight
from houndsight.data.folder import scan
from houndsight.errors import JobError, SpecError
from houndsight.folders import JobFolder
from houndsight.models.network import build
from houndsight.records.reader import Records
from houndsight.spec import ClassifierSpec
from houndsight.training import plan
from houndsight.training.checkpoint import load
from houndsight.verbs.digits import write_digits
from houndsight.worker import run_job
from houndsight.workspace import Workspace, write_json

SMALL: dict[str, Any] = {
    "backbone": "shufflenet_v2_x0_5", "weights": "none", "image_size": 32, "threads": 1, "precision": "float32",
    "workers": 1, "device": "cpu",
}  # fmt: skip
FINE: dict[str, Any] = SMALL | {"recipe": "lp-ft", "steps": 17, "first_size": 24, "checkpoint_seconds": 0}
"""All that came with fine-tuning: the probe's head, averages, layer decay, smaller inputs first; 5 steps an epoch."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "data"
    write_digits(folder)
    for number, image in enumerate(sorted(folder.glob("*/*"))):
        if number % 9:
            image.unlink()
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One workspace: the images are decoded and the features computed once."""
    return Workspace.find(tmp_path_factory.mktemp("runs"))


def prepared(place: Workspace, data: Path, **settings: Any) -> JobFolder:
    job = place.create(ClassifierSpec.create(data=str(data), **settings), None, "inline")
    write_json(job.index, scan(data))
    return job


def never() -> bool:
    return False


def trained(job: JobFolder) -> dict[str, torch.Tensor]:
    """The model, and what the last step left: the model may be the fitted head that no epoch has beaten."""
    (last,) = job.checkpoints.glob("step-*-end.safetensors")
    left = {f"last {name}": each for name, each in safetensors.torch.load_file(last).items()}
    return safetensors.torch.load_file(job.model / "model.safetensors") | left


def equal(one: JobFolder, other: JobFolder) -> bool:
    first, second = trained(one), trained(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed(shared: Workspace, digits: Path) -> JobFolder:
    job = prepared(shared, digits, **FINE)
    assert run_job(job, never) == "COMPLETED"
    return job


# ---------------------------------------------------------------------------------------- every training


@pytest.mark.parametrize(
    ("settings", "recipe"),
    [
        ({}, "linear"),  # since fine-tuning takes too long here, as measured on the network that is then fitted
        ({"recipe": "plain", "epochs": 10, "lr": 0.01}, "plain"),
        pytest.param(
            {"epochs": 10, "lr": 0.01, "views": 2, "augment": "crop-flip", "ema": 0.9}, "plain", marks=pytest.mark.slow
        ),
    ],
)
def test_on_cached_features(
    shared: Workspace, digits: Path, settings: dict[str, Any], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "AFFORDABLE_MINUTES", 0.0)
    job = houndsight.train(
        digits, workspace=shared.path, backend="inline", **SMALL | {"backbone": "resnet18"} | settings
    )
    assert job.state == "COMPLETED"
    assert ClassifierSpec.read(job.files.plan).recipe == recipe
    assert job.metrics["valid"]["top1"].low > 0.1  # better than chance, of a random network
    assert {"features", "evaluate"} <= {span.name for span in job.records.spans()}
    assert len(job.records.curve("loss", "valid")[1]) > 1
    assert job.report is not None


def test_fine_tuning(undisturbed: JobFolder) -> None:
    decided = ClassifierSpec.read(undisturbed.plan)
    assert (decided.head_start, decided.ema, decided.layer_decay, decided.steps) == ("probe", 0.99, 0.75, 17)
    records = Records(undisturbed.records)
    assert list(records.curve("loss", "valid")[0]) == [0, 4, 9, 14, 16]
    assert len(records.curve("loss")[0]) == 17
    assert len(records.curve("probe_loss", "valid")[0]) > 1
    start = build(ClassifierSpec.create(data="-", **SMALL), 10).network.state_dict()
    name = next(name for name in trained(undisturbed) if name.startswith("last model") and "conv1.0.weight" in name)
    assert not torch.equal(start["backbone.conv1.0.weight"], trained(undisturbed)[name])


def test_settings_that_contradict_leave_no_job(shared: Workspace, digits: Path) -> None:
    before = shared.names()
    with pytest.raises(SpecError, match="hidden"):
        houndsight.train(digits, workspace=shared.path, backend="inline", **FINE | {"hidden": (8,)})
    with pytest.raises(SpecError, match="first_size"):
        houndsight.train(digits, workspace=shared.path, backend="inline", **FINE | {"first_size": 32})
    assert shared.names() == before


@pytest.mark.slow
def test_features_that_are_not_finite_are_told(shared: Workspace, digits: Path, tmp_path: Path) -> None:
    state = build(ClassifierSpec.create(data="-", **SMALL), 1000).network.backbone.state_dict()
    state["conv1.0.weight"].fill_(3e38)  # finite, but no product of it
    torch.save(state, tmp_path / "broken.pth")
    job = prepared(shared, digits, **SMALL | {"recipe": "linear", "weights": str(tmp_path / "broken.pth")})
    with pytest.raises(JobError, match="not finite"):
        run_job(job, never)
    assert not job.model.exists()


# ---------------------------------------------------------------------------------------- stopped and killed

STATIONS: dict[str, Callable[[JobFolder], bool]] = {
    "check": lambda job: job.spec.is_file(),
    "decode": lambda job: job.check.is_file(),
    "features": lambda job: job.plan.is_file(),
    "first epoch": lambda job: any(job.checkpoints.glob("step-000000003.*")),
    "full size": lambda job: any(job.checkpoints.glob("step-000000012.*")),
    "evaluate": lambda job: any(job.checkpoints.glob("*-end.*")),
}


@pytest.mark.slow
def test_stopped_in_the_second_half_and_going_on(shared: Workspace, undisturbed: JobFolder, digits: Path) -> None:
    job = prepared(shared, digits, **FINE)
    assert run_job(job, lambda: STATIONS["full size"](job)) == "STOPPED"
    assert not job.model.exists()
    assert run_job(job, never) == "COMPLETED"
    assert equal(job, undisturbed)


@pytest.mark.slow
def test_stopped_at_every_station_and_going_on(undisturbed: JobFolder, digits: Path, tmp_path: Path) -> None:
    """One job, stopped at one station after the other; nothing of it is in the cache yet."""
    job = prepared(Workspace.find(tmp_path / "runs"), digits, **FINE)
    for station, reached in STATIONS.items():
        assert run_job(job, lambda reached=reached: reached(job)) == "STOPPED", station  # type: ignore[misc]
        assert not job.model.exists(), station
    assert not list(job.path.parents[1].joinpath("cache").rglob(".*"))
    assert run_job(job, never) == "COMPLETED"
    assert equal(job, undisturbed)
    assert list(Records(job.records).curve("loss", "valid")[0]) == [0, 4, 9, 14, 16]


@pytest.mark.slow
def test_killed_and_going_on(shared: Workspace, undisturbed: JobFolder, digits: Path) -> None:
    job = prepared(shared, digits, **FINE)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "houndsight.worker", str(job.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as worker:
        assert worker.stdout is not None
        assert any(line.startswith(b"Epoch 1:") for line in worker.stdout)
        worker.kill()
        assert worker.wait() == -9
    saved = load(job.checkpoints)
    assert saved is not None
    assert 4 <= saved.state.step < 17
    assert saved.average
    assert run_job(job, never) == "COMPLETED"
    assert equal(job, undisturbed)
