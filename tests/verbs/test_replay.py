"""A training that went bad is gone back to: the step, the layer, the operation, the images; bit for bit as it was."""

from pathlib import Path
from typing import Any

import pytest

import houndsight
from houndsight.errors import JobError, SpecError, WorkspaceError
from houndsight.records.tensors import TensorRecords
from houndsight.verbs.job import Job

from .conftest import SETTINGS

SICK: dict[str, Any] = SETTINGS | {
    "backbone": "squeezenet1_1",
    "image_size": 64,
    "optimizer": "sgd",
    "lr": 10.0,
    "warmup": 0.0,
    "workers": 1,
    "steps": 30,
}


def test_a_sound_step_is_said_to_be_sound(colours: Job) -> None:
    found = houndsight.replay(colours.name, 4)
    assert found.finite
    assert found.same  # every loss on the way, to the last bit
    assert "Step 4 is sound" in found.message
    assert found.loss == list(colours.records.curve("loss")[1])[4]
    records = TensorRecords(Path(found.folder))
    assert records.steps().tolist() == [0, 1, 2, 3, 4]
    assert "gradient/head.1.weight" in records.names()


def test_what_cannot_be_replayed(colours: Job) -> None:
    with pytest.raises(SpecError, match="flight recorder"):
        houndsight.replay(colours.name)
    with pytest.raises(SpecError, match="no step -1"):
        houndsight.replay(colours.name, -1)
    with pytest.raises(WorkspaceError, match="no job"):
        houndsight.replay("coulours", 1)


@pytest.mark.slow
def test_the_step_that_went_bad(pictures: Path, tmp_path: Path) -> None:
    place = tmp_path / "runs"
    with pytest.raises(JobError, match=r"not finite|loss of step"):
        houndsight.train(pictures, name="sick", workspace=place, backend="inline", **SICK)
    job = houndsight.open_job("sick", workspace=place)
    dumped = sorted((job.files.records / "flight").iterdir())
    assert dumped
    assert {"steps.json", "batch.safetensors", "suspects.safetensors", "generators.safetensors", "finding.json"} <= {
        each.name for each in dumped[-1].iterdir()
    }
    found = houndsight.replay("sick", workspace=place)
    assert not found.finite
    assert found.same
    assert found.layer.startswith(("backbone.", "head."))
    assert found.operation
    assert f"Step {found.step} went bad" in found.message
