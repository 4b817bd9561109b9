"""Whole jobs of scripts that were never changed: cold and warm, stopped by a rule; their findings and their page."""

import json
from pathlib import Path
from typing import Any

import pytest

import houndsight
from houndsight.folders import JobFolder
from houndsight.records.reader import Records

from .test_unchanged import digest

SCRIPT = """
import argparse, os, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
lr = parser.parse_args().lr
torch.manual_seed(0)
images, labels = torch.randn(128, 3, 16, 16), torch.randint(0, 4, (128,))
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.2),
                    nn.Linear(1568, 4), nn.Softmax(dim=1))
optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
for epoch in range(4):
    net.train()
    for x, y in DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True):
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(net(x), y)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.6f}", flush=True)
torch.save(net.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"))
"""


def findings(job: JobFolder) -> dict[str, dict[str, Any]]:
    return {each["rule"]: each for each in json.loads(job.findings.read_bytes())["findings"]}


@pytest.mark.slow
def test_cold_warm_and_off_learn_the_same_and_the_page_has_it_all(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    runs: dict[str, dict[str, Any]] = {
        "cold": {"cold": True, "rules": ("VanishingGradient", "overfit:off", "LowGPUUtilization:off")},
        "warm": {},
        "off": {"debug": "off"},
    }
    jobs = {
        name: houndsight.run(
            script, name=name, workspace=tmp_path / "runs", metrics={"loss": r"loss ([0-9.]+)"}, **how
        ).files
        for name, how in runs.items()
    }
    assert len({digest(job.model / "model.pth") for job in jobs.values()}) == 1
    assert not (jobs["off"].records / "watcher.json").exists()
    assert "overfit" not in findings(jobs["cold"])
    assert "overfit" in findings(jobs["warm"])
    for name in ("cold", "warm"):
        job = jobs[name]
        assert findings(job)["head_outputs"]["status"] == "IssuesFound", findings(job)["head_outputs"]
        assert findings(job)["saturated_activation"]["status"] == "NotApplicable"
        assert "overfit" not in (job.log.read_text().partition("epoch 3")[0])
        page = json.loads(job.report_data.read_bytes())
        assert {"train", "script"} <= {each["mode"] for each in page["curves"]}
        assert page["tensors"]
        assert page["speed"]["steps"] == 32
        assert page["time"]
        assert page["machine"]
        rules = job.rule_output / "ProfilerReport" / "profiler-output" / "profiler-reports"
        assert (rules / "LowGPUUtilization.json").exists() == (name == "warm")


@pytest.mark.slow
def test_a_finding_stops_the_script(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("range(4)", "range(100_000)"))
    job = houndsight.run(
        script, workspace=tmp_path / "runs", hyperparameters={"lr": 0.01}, on_finding="stop", max_seconds=120
    )
    assert job.status.state == "STOPPED"
    assert "asked" in (job.status.reason or "")
    found = findings(job.files)
    assert found["head_outputs"]["status"] == "IssuesFound"
    assert len(Records(job.files.records).curve("loss")[0]) > 4
