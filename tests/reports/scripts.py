"""Makes whole folders of script jobs without running a script."""

import math
from pathlib import Path
from typing import Any

from houndsight.folders import JobFolder
from houndsight.records.writer import RecordWriter
from houndsight.reports.ran import FailedAt, MachineFacts, MetricSummary, Packed, PackedFile, ScriptOutcome
from houndsight.spec import ScriptSpec, State, Status
from houndsight.workspace import Workspace, write_json

from .factory import START

LOSS, ACCURACY = "average test loss", "test:accuracy"
ERROR = "ValueError: Expected input batch_size (64) to match target batch_size (63)."
CODE = (
    "    loss = None",
    "    for images, labels in loader:",
    "        loss = criterion(net(images), labels)",
    "",
    "def main():",
)


def make_script_job(workspace: Path, name: str = "keen-setter-1a", state: State = "FAILED", **more: Any) -> JobFolder:
    """A script job that is RUNNING or ended in `state`; `more` are fields of its outcome."""
    spec = ScriptSpec(
        entry_point="hpo.py",
        source_dir="/code/my project",
        alone=True,
        channels={"training": "/data/dogs"},
        hyperparameters={"lr": 0.01, "layers": [64, 32], "name": "a b", "version": "5"},
        metrics={LOSS: "Average loss: ([0-9.]+)", ACCURACY: "Accuracy: ([0-9.]+)%", "gpu": r"gpu: (\S+)"},
        environment={"API_TOKEN": "hush-hush"},
        max_seconds=3600.0,
    )
    job = Workspace(workspace).create(spec, name)
    with RecordWriter(job.records) as records:
        for step in range(8):
            records.scalar(LOSS, 0.2 + 2.1 * math.exp(-step / 3), step=step, mode="script")
        for step in range(3):
            records.scalar(ACCURACY, 91.0 - 30.0 / (step + 1), step=step, mode="script")
    words = ["epoch 1", f'  File "{job.code}/hpo.py", line 3, in train', f"    {CODE[2].strip()}", ERROR]
    job.log.write_text("\n".join([words[0], "Traceback (most recent call last):", *words[1:]]) + "\n")
    status: dict[str, Any] = {"state": state, "created": START - 2, "started": START}
    if state != "RUNNING":
        status |= {"ended": START + 64.25, "exit_code": int(state == "FAILED")}
        write_json(job.script, outcome(state, **more))
        job.output.mkdir()
        job.model_archive.write_bytes(b"0" * 1234)
    if state == "FAILED":
        said = f'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "{ERROR}"'
        job.failure.write_text(said)
        error = {"kind": "JobError", "message": said, "repair": "The whole output stands in the job's log."}
        status |= {"reason": said, "error": error}
    if state == "STOPPED":
        status |= {"reason": "stopped at its time limit of 60 min (--max-minutes)"}
    write_json(job.status, Status.create(**status))
    return job


def outcome(state: State, **more: Any) -> ScriptOutcome:
    """What the contract writes at the end."""
    files = (PackedFile(path="model.pth", bytes=4321), PackedFile(path="code/inference.py", bytes=21))
    failed = state == "FAILED"
    values: dict[str, Any] = {
        "command": ("/usr/bin/python3", "--", "hpo.py", "--layers", "[64, 32]", "--lr", "0.01", "--name", "a b"),
        "exit_code": int(failed),
        "seconds": 61.5,
        "stopped": "stopped at its time limit of 60 min (--max-minutes)" if state == "STOPPED" else "",
        "metrics": {"gpu": MetricSummary(expression=r"gpu: (\S+)", count=0, skipped=8)},
        "error": ERROR if failed else "",
        "failed_at": FailedAt(file="hpo.py", line=3, excerpt=CODE, first_line=1) if failed else None,
        "machine": MachineFacts(
            system="Linux 6.1.0, x86_64",
            cpus=2,
            memory=8_000_000_000,
            cpu_seconds=110.7,
            peak_memory=512_000_000,
            versions={"python": "3.11.7", "torch": "2.15.0"},
        ),
        "packed": {"model.tar.gz": Packed(files=files, count=2, bytes=4342)},
    }
    return ScriptOutcome(**values | more)
