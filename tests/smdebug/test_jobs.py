"""Script jobs from start to end: with a hook of their own and a configuration, and without any word of either."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from houndsight.scripts.smdebug_errors import ModeKeys
from houndsight.scripts.smdebug_sources import create_trial
from houndsight.verbs.run import run
from houndsight.workspace import Workspace

pytestmark = pytest.mark.slow

TRAIN, EVAL = ModeKeys.TRAIN, ModeKeys.EVAL
LOSS = "CrossEntropyLoss_output_0"

SCRIPT = """
import os
import torch
from torch import nn
{imports}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))

torch.manual_seed(0)
model, criterion = Net(), nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
hook = None
{hook}
for epoch in range(2):
    for mode, steps in (("TRAIN", 6), ("EVAL", 3)):
        model.train(mode == "TRAIN")
        if hook:
            hook.set_mode(smd.modes[mode])
        for step in range(steps):
            loss = criterion(model(torch.randn(4, 3, 8, 8)), torch.randint(0, 4, (4,)))
            if mode == "TRAIN":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
torch.save(model.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"))
"""
WITH = SCRIPT.format(
    imports="import smdebug.pytorch as smd\nfrom smdebug import modes\nfrom smdebug.profiler.utils import str2bool",
    hook="hook = smd.Hook.create_from_json_file()\nhook.register_hook(model)\nhook.register_loss(criterion)",
)
WITHOUT = SCRIPT.format(imports="", hook="")
CONFIG = {
    "HookParameters": {"train.save_interval": "4", "eval.save_interval": "2"},
    "CollectionConfigurations": [
        {"CollectionName": "CrossEntopyLoss_output_0"},
        {"CollectionName": "relu", "CollectionParameters": {"include_regex": ".*relu_input"}},
    ],
}


def weights(workspace: Workspace, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(workspace.job(name).model / "model.pth", weights_only=True)
    return found


def test_what_a_job_saves(workspace: Workspace, tmp_path: Path) -> None:
    for name, text, config in (("with", WITH, CONFIG), ("without", WITHOUT, None), ("off", WITHOUT, None)):
        script = tmp_path / f"{name}.py"
        script.write_text(text)
        more: dict[str, Any] = {"debug": "off"} if name == "off" else {}
        job = run(script, name=name, hook_config=config, **more)
        assert job.state == "COMPLETED", workspace.job(name).log.read_text()
    configured, plain = create_trial("with"), create_trial("s3://sagemaker-us-east-1-000000000000/without/debug-output")
    assert configured.tensor_names() == [LOSS, "relu_input_0"]
    assert (configured.steps(TRAIN), configured.steps(EVAL)) == ([0, 4, 8], [0, 2, 4])
    assert plain.tensor_names() == [
        LOSS,
        *(f"gradient/Net_{name}" for name in ("conv.bias", "conv.weight", "fc.bias", "fc.weight")),
        "relu_input_0",
    ]
    assert (plain.steps(TRAIN), plain.steps(EVAL), plain.steps()) == ([0], [0], [0, 6])
    for name in (LOSS, "relu_input_0"):
        assert np.array_equal(configured.tensor(name).value(0, TRAIN), plain.tensor(name).value(0, TRAIN))
    assert plain.tensor("relu_input_0").value(0).min() < 0
    assert plain.loaded_all_steps
    assert not (workspace.job("off").path / "debug-output").exists()
    untouched = weights(workspace, "off")
    for name in ("with", "without"):
        assert all(torch.equal(each, untouched[key]) for key, each in weights(workspace, name).items()), name
