"""What readers of saved tensors are told: values, steps, exceptions, live trainings, several workers, any source."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from houndsight.records.facts import add_facts
from houndsight.records.tensors import STATISTICS, TensorWriter
from houndsight.records.writer import RecordWriter
from houndsight.scripts.smdebug_config import Collection, CollectionManager, SaveConfig
from houndsight.scripts.smdebug_errors import (
    InvalidWorker,
    MissingCollectionFiles,
    ModeKeys,
    NoMoreData,
    ShapeUnavailableForStep,
    SMDebugNotImplementedError,
    StepNotYetAvailable,
    StepUnavailable,
    TensorUnavailable,
    TensorUnavailableForStep,
)
from houndsight.scripts.smdebug_sources import create_trial
from houndsight.scripts.smdebug_store import Reader, StepState, Writer
from houndsight.scripts.smdebug_trial import Trial, no_refresh
from houndsight.spec import ScriptSpec, State, Status
from houndsight.workspace import Workspace, write_json
from tests.s3_servers import KEY, SECRET, running

TRAIN, EVAL, GLOBAL = ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.GLOBAL
LOSS = "CrossEntropyLoss_output_0"


def opened(folder: Path, rank: int = 0, workers: int = 1) -> Writer:
    writer = Writer(folder, rank)
    assert writer.open() is not None
    manager = CollectionManager()
    manager.add(Collection("mine", ["fc_"], save_config=SaveConfig(save_interval=2)))
    writer.collections({name: each.to_json_dict() for name, each in manager.collections.items()}, workers)
    return writer


def loss(writer: Writer, number: int, value: float, mode: ModeKeys = TRAIN, step: int | None = None) -> None:
    values: dict[str, Any] = {LOSS: np.array(value, np.float32)}
    if number % 2 == 0:
        values["fc_output_0"] = np.full((2, 3), value, np.float16)
    place = (number, mode, number if step is None else step)
    writer.add(place, values, {"w": {"min": -1.0, "abs_max": 2.0}}, {"s": [4, 5]})


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return opened(tmp_path / "t")


def test_everything_of_a_tensor(writer: Writer, tmp_path: Path) -> None:
    for number in range(4):
        loss(writer, number, number + 0.5)
    loss(writer, 4, float("nan"), EVAL, 0)
    writer.close({"TRAIN": 3, "EVAL": 0}, 4)
    trial = create_trial(str(tmp_path / "t") + " ")
    assert trial.tensor_names() == [LOSS, "fc_output_0", "s", "w"]
    assert trial.tensor_names(step=1, mode=TRAIN) == [LOSS, "s", "w"]
    assert trial.tensor_names(regex=["fc", "^w$"]) == ["fc_output_0", "w"]
    assert trial.tensor_names(collection="mine") == ["fc_output_0"]
    assert trial.collection("mine").tensor_names == {"fc_output_0"}
    assert trial.collections()["mine"].save_config == SaveConfig(save_interval=2)
    found = trial.tensor(LOSS)
    assert (found.steps(), found.steps(TRAIN), found.steps(EVAL)) == ([0, 1, 2, 3, 4], [0, 1, 2, 3], [0])
    assert found.value(2, TRAIN).dtype == np.float32
    assert np.isnan(found.value(0, EVAL))
    assert [float(each) for each in found.values(TRAIN).values()] == [0.5, 1.5, 2.5, 3.5]
    assert (found.prev_steps(2), found.prev_steps(7, 2), found.prev_steps(2, 5, EVAL)) == ([0, 1, 2], [3, 4], [0])
    assert found.workers(1) == trial.workers() == ["worker_0"]
    whole = trial.tensor("fc_output_0")
    assert whole.value(2).dtype == np.float16
    assert whole.shape(2) == (2, 3)
    assert whole.reduction_value(2, "l1") == 15.0
    assert whole.reduction_value(2, "variance") == 0.0
    assert trial.tensor("w").reduction_value(1, "max", abs=True) == 2.0
    assert trial.tensor("s").shape(1) == (4, 5)
    assert repr(trial).count(LOSS) == 1


def test_what_was_not_saved_is_said_by_smdebugs_own_errors(writer: Writer, tmp_path: Path) -> None:
    for number in (0, 1, 4):
        loss(writer, number, 0.0)
    trial = Trial(Reader(tmp_path / "t"), "t")
    with pytest.raises(TensorUnavailable, match="nothing"):
        trial.tensor("nothing")
    tensor = trial.tensor("fc_output_0")
    with pytest.raises(TensorUnavailableForStep, match="fc_output_0"):
        tensor.value(1)
    with pytest.raises(StepUnavailable, match="Step 3 of mode TRAIN"):
        tensor.value(3, TRAIN)
    with pytest.raises(StepNotYetAvailable):
        tensor.value(5)
    with pytest.raises(InvalidWorker):
        tensor.value(0, worker="worker_7")
    with pytest.raises(ShapeUnavailableForStep):
        trial.tensor("w").shape(0)
    assert trial.has_passed_step(4) is StepState.AVAILABLE
    assert trial.has_passed_step(3, TRAIN) is StepState.UNAVAILABLE
    assert trial.has_passed_step(5) is StepState.NOT_YET_AVAILABLE
    writer.close({"TRAIN": 4}, 4)
    with pytest.raises(NoMoreData, match="Max step available is 4"):
        tensor.value(5)
    assert trial.loaded_all_steps
    with pytest.raises(NoMoreData):
        trial.wait_for_steps([1, 6])
    with pytest.raises(StepUnavailable):
        trial.wait_for_steps([2])


def test_a_training_that_runs_is_waited_for(writer: Writer, tmp_path: Path) -> None:
    loss(writer, 0, 0.0)
    trial = Trial(Reader(tmp_path / "t"), "t")
    timer = threading.Timer(0.3, lambda: loss(writer, 1, 0.0))
    timer.start()
    with no_refresh(trial):
        trial.wait_for_steps([0, 1], TRAIN)
        assert not trial.dynamic_refresh
    timer.join()
    assert trial.steps(TRAIN) == [0, 1]
    loss(writer, 2, 0.0)
    with no_refresh([trial]):
        assert trial.steps() == [0, 1]
    assert trial.steps() == [0, 1, 2]


def test_a_step_is_complete_when_every_worker_has_it(tmp_path: Path) -> None:
    first, second = (opened(tmp_path / "t", rank, workers=2) for rank in (0, 1))
    trial = Trial(Reader(tmp_path / "t"), "t")
    for number in range(3):
        loss(first, number, 0.0)
    loss(second, 1, 1.0)
    assert (trial.steps(), trial.steps(show_incomplete_steps=True)) == ([0, 1], [0, 1, 2])
    assert trial.has_passed_step(2) is StepState.NOT_YET_AVAILABLE
    assert trial.tensor(LOSS).value(1, worker="worker_1") == 1.0
    assert trial.tensor(LOSS).workers(1) == ["worker_0", "worker_1"]
    first.close({}, 2)
    assert trial.steps() == [0, 1]
    second.close({}, 1)
    assert trial.steps() == [0, 1, 2]


def test_a_writer_that_was_killed_has_ended(writer: Writer, tmp_path: Path) -> None:
    loss(writer, 0, 0.0)
    path = tmp_path / "t" / "worker_0.jsonl"
    text = path.read_text().replace('"started": ', '"started": 1')  # a process of that number began at another time
    path.write_text(text + '{"step": 1, "mo')
    trial = create_trial(str(tmp_path / "t"))
    assert (trial.loaded_all_steps, trial.steps()) == (True, [0])


def test_range_of_steps(writer: Writer, tmp_path: Path) -> None:
    for number in range(5):
        loss(writer, number, 0.0)
    assert create_trial(str(tmp_path / "t"), range_steps=(1, 3)).steps() == [1, 2]
    assert create_trial(str(tmp_path / "t"), name="mine", range_steps=(3, None)).steps() == [3, 4]


def job_of(workspace: Workspace, state: State = "COMPLETED") -> Any:
    job = workspace.create(ScriptSpec(source_dir=str(workspace.path), entry_point="x.py"), "my-job")
    write_json(job.status, Status(state=state))
    return job


def test_a_job_is_found_by_name_folder_and_address(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(workspace)
    writer = opened(job.path / "debug-output")
    loss(writer, 0, 1.0)
    writer.close({}, 0)
    monkeypatch.chdir(workspace.path)
    for path in (
        *("my-job", str(job.path), str(job.path / "debug-output"), "s3://sagemaker-us-east-1-1234/my-job/debug-output"),
        *("s3://bucket/some/prefix/my-job/debug-output/", "jobs/my-job"),
    ):
        assert create_trial(path).steps() == [0], path


def test_what_is_not_there_is_said(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingCollectionFiles, match="no-such-job"):
        create_trial("no-such-job")
    job_of(workspace)
    with pytest.raises(MissingCollectionFiles, match="my-job"):
        create_trial("my-job")
    with pytest.raises(SMDebugNotImplementedError, match="TrainingJob"):
        create_trial("my-job", profiler=True)


def test_a_training_without_a_hook_is_read_from_its_records(workspace: Workspace) -> None:
    job = job_of(workspace)
    add_facts(job.records, loss="cross_entropy")
    tensors = TensorWriter(job.records)
    row = np.full((1, len(STATISTICS)), np.nan, np.float32)
    row[0, STATISTICS.index("l2")] = 3.0
    for name in ("weight/fc.weight", "gradient/fc.weight", "input/layer1.relu#2", "distance/fc.weight"):
        tensors.add(5, "train", [name], row)
    tensors.add(6, "train", ["weight/fc.weight", "gradient/fc.weight", "input/layer1.relu#2"], np.repeat(row, 3, 0))
    tensors.close()
    with RecordWriter(job.records) as records:
        records.scalar("loss", 0.25, step=5)
        records.scalar("loss", 0.5, step=5, mode="valid")
    trial = create_trial("my-job")
    assert trial.tensor_names() == [LOSS, "Model_fc.weight", "gradient/Model_fc.weight", "layer1.relu_input_1"]
    assert trial.tensor(LOSS).values(TRAIN) == {5: 0.25}
    assert trial.tensor(LOSS).values(EVAL) == {5: 0.5}
    assert trial.tensor("gradient/Model_fc.weight").reduction_value(6, "l2", TRAIN) == 3.0
    with pytest.raises(TensorUnavailableForStep):
        trial.tensor("gradient/Model_fc.weight").value(6, TRAIN)


@pytest.mark.slow
def test_what_lies_on_s3_is_fetched(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Writer
) -> None:
    loss(writer, 0, 0.5)
    writer.close({"TRAIN": 0}, 0)
    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with running("rclone", tmp_path / "s3") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        shutil.copytree(tmp_path / "t", tmp_path / "s3" / "bucket" / "old-job" / "debug-output")
        trial = create_trial("s3://bucket/old-job/debug-output")
        assert trial.tensor(LOSS).values(TRAIN) == {0: 0.5}
        assert trial.tensor("fc_output_0").value(0).shape == (2, 3)
        assert create_trial("s3://bucket/old-job").steps() == [0]
