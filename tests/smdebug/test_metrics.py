"""Profiles through smdebug's readers: what the machine did, the steps, tables and charts, made from a job's records."""

from pathlib import Path
from typing import Any

import pytest

from houndsight.records.writer import RecordWriter
from houndsight.scripts import smdebug_charts as charts
from houndsight.scripts.smdebug_errors import NoMoreProfilerData, SMDebugError
from houndsight.scripts.smdebug_frames import PandasFrame
from houndsight.scripts.smdebug_metrics import (
    LocalAlgorithmMetricsReader,
    LocalSystemMetricsReader,
    S3SystemMetricsReader,
    TimeUnits,
    TrainingJob,
)
from houndsight.watch.sampler import Sampler
from houndsight.workspace import Workspace

from .test_trial import job_of

START = 1_700_000_000.0


def sampled(folder: Path) -> None:
    """A file of the sampler with two cores, one busy and one idle, and a GPU, over three seconds."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    gpu: list[float | None] = [80.0, 10.0, 2e9, 100.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 50.0]
    head = {"format": 1, "cores": 2, "usable": 2.0, "memory": 8_000_000_000, "model": "x", "interval": 1.0}
    lines: list[dict[str, Any]] = [head | {"host": "ada", "gpus": [{"name": "G", "memory": 8_000_000_000}]}]
    for at in range(4):
        tree = {"cpu": 0.5 * at, "rss": 1, "kids": [], "main": [1, None, None]}
        lines.append(
            {"t": START + at, "cpu": [[at, 0, 0], [0, 0, 0]], "tree": tree, "own": 0.0, "mem": [6_000_000_000]}
            | {"disk": [0, 0], "net": [100 * at, 0], "gpu": [gpu], "psi": [None] * 3}
        )
    (folder / "machine.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))


def stepped(folder: Path) -> None:
    """Four steps of 1 s each, the last followed by 9 s of something else."""
    with RecordWriter(folder) as records:
        for step in range(4):
            for name, at, length in (("data", 0.0, 0.5), ("forward", 0.5, 0.25), ("optimizer", 0.75, 0.25)):
                records.add_span(name, START + step + at, length, step)
        records.add_span("rest", START + 4, 9.0, 3)


@pytest.fixture
def job(workspace: Workspace) -> str:
    """A job with samples and steps."""
    made = job_of(workspace)
    sampled(made.records)
    stepped(made.records)
    return str(made.path)


def test_events_of_the_machine(job: str) -> None:
    reader = LocalSystemMetricsReader(job)
    reader.refresh_event_file_list()
    last = reader.get_timestamp_of_latest_available_file()
    events = reader.get_events(0, last)
    found = {(each.dimension, each.name): each.value for each in events}
    assert found["CPUUtilization", "cpu0"] == pytest.approx(100)
    assert found["CPUUtilization", "cpu1"] == 0
    assert found["GPUUtilization", "gpu0"] == 80
    assert found["GPUMemoryUtilization", "gpu0"] == 25
    assert found["Memory", "MemoryUsedPercent"] == 25
    assert found["Algorithm", "ReceivedBytesPerSecond"] == 100
    assert len(events) == 3 * len(found)
    assert len(reader.get_events(START + 1.5, START + 2.5, TimeUnits.SECONDS, event_type="cpu")) == 4
    assert reader.get_timestamp_of_first_available_file() == int(1e6 * (START + 1))
    assert len(S3SystemMetricsReader("s3://bucket/my-job/profiler-output").get_events(0, last)) == len(events)


def test_events_of_the_steps(job: str) -> None:
    reader = LocalAlgorithmMetricsReader(job)
    steps = [each for each in reader.get_events(0, 2e18) if each.event_name == "Step:ModeKeys.TRAIN"]
    assert [each.event_args["step_num"] for each in steps] == ["0", "1", "2", "3"]
    assert [each.duration for each in steps] == pytest.approx([1e6] * 4)
    loaded = [each for each in reader.get_events_by_step(1, 3) if each.event_name == "DataLoaderIter"]
    assert [each.duration for each in loaded] == pytest.approx([0.5e6] * 2)
    assert reader.get_timestamp_of_latest_available_file() >= int(1e6 * (START + 4))


def test_tables(job: str) -> None:
    frame = PandasFrame(job)
    machine = frame.get_all_system_metrics(["CPUUtilization"])
    assert machine.groupby("system_metric").value.mean().to_dict() == pytest.approx({"cpu0": 100, "cpu1": 0})
    both = frame.get_profiler_data_by_step(1, 2)
    assert set(both[1]["step"]) == {1, 2}
    assert both[0]["timestamp_us"].between(0, 2.1e6).all()
    assert set(frame.get_all_framework_metrics(["Forward"])["framework_metric"]) == {"Forward"}
    assert len(frame.get_profiler_data_by_time(0, 2e18)[0]) == len(frame.get_all_system_metrics())


def test_a_job_and_its_charts_as_notebooks_ask_for_them(job: str) -> None:
    training = TrainingJob("my-job", "us-east-1")
    assert training.get_systems_metrics_reader() is None
    training.wait_for_sys_profiling_data_to_be_available()
    reader = training.get_systems_metrics_reader()
    assert reader is not None
    shown = charts.TimelineCharts(
        reader, framework_metrics_reader=None, select_dimensions=["CPU", "GPU"], select_events=["total"]
    )
    assert shown.filtered_dimensions == {"CPUUtilization", "GPUUtilization", "GPUMemoryUtilization"}
    assert shown.system_metrics["CPUUtilization"]["total"][:, 1] == pytest.approx([50] * 3)
    assert shown.svg.startswith("<svg")
    assert "GPUMemoryUtilization" in shown.svg
    assert charts.Heatmap(reader)._repr_html_().startswith("<svg")
    histogram = charts.MetricsHistogram(reader)
    histogram.plot(select_dimensions=["CPU"])
    assert "percent" in histogram.svg
    training.wait_for_framework_profiling_data_to_be_available()
    framework = training.get_framework_metrics_reader()
    assert framework is not None
    steps = charts.StepTimelineChart(framework)
    assert [step[2] for step in steps.steps] == [0, 1, 2, 3]
    lengths = charts.StepHistogram(framework)
    lengths.plot()
    lengths.update_data(framework.get_timestamp_of_latest_available_file())
    assert "Forward" in lengths.svg
    assert training.describe_training_job()["TrainingJobStatus"] == "Completed"


def test_what_is_not_there_is_said(workspace: Workspace) -> None:
    with pytest.raises(SMDebugError, match="no job nowhere"):
        TrainingJob("nowhere")
    job_of(workspace)
    with pytest.raises(NoMoreProfilerData):
        TrainingJob("my-job").wait_for_sys_profiling_data_to_be_available()
    reader = LocalSystemMetricsReader("my-job")
    assert charts.TimelineCharts(reader)._repr_html_() == "<p>There is nothing to see yet.</p>"


@pytest.mark.slow
def test_samples_of_this_machine(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path, 0.1)
    reader = LocalSystemMetricsReader(str(tmp_path))
    while len(reader.get_events(0, 2e18)) < 4:
        pass
    sampler.stop()
    assert {each.dimension for each in reader.get_events(0, 2e18)} >= {"CPUUtilization", "Memory", "Algorithm"}
