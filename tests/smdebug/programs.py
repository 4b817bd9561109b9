"""A small training as a program of its own, run under `smdebug` of the package index and under ours; prints JSON.

    python programs.py FOLDER CASE...

Nothing of Houndsight is imported here by name: the import path says whose `smdebug` it is.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import smdebug.pytorch as smd
import torch
from smdebug.exceptions import SMDebugError
from smdebug.trials import create_trial
from torch import nn

CASES = ("hook_only", "both", "collections", "reductions", "modes", "json", "all")


class Block(nn.Module):
    """Two convolutions and a sum; its activation is called twice, as in torchvision's networks."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        """(B, 4, H, W) to the same."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.conv2(out)
        return self.relu(out + x)


class ResNet(nn.Module):
    """A network with the names of torchvision's."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.layer1 = nn.Sequential(Block(inplace))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> Any:
        """(B, 3, H, W) to (B, 5)."""
        return self.fc(self.layer1(self.relu(self.conv1(x))).mean(dim=(2, 3)))


def hook_of(case: str, out: str) -> Any:
    """The hook of a case."""
    if case in ("hook_only", "both"):
        return smd.Hook(out_dir=out, save_config=smd.SaveConfig(save_interval=3))
    if case == "collections":
        hook = smd.Hook(
            out_dir=out,
            save_config=smd.SaveConfig(save_interval=2),
            include_collections=["weights", "biases", "gradients", "acts"],
        )
        hook.get_collection("acts").include([".*relu_output", "conv1_input", "layer1_output"])
        return hook
    if case == "reductions":
        return smd.Hook(
            out_dir=out,
            save_config=smd.SaveConfig(save_interval=2),
            include_collections=["weights", "gradients"],
            reduction_config=smd.ReductionConfig(
                reductions=["min", "max", "mean", "std", "variance", "sum"],
                abs_reductions=["mean", "max"],
                norms=["l1", "l2"],
                save_shape=True,
            ),
        )
    if case == "modes":
        config = {
            smd.modes.TRAIN: smd.SaveConfigMode(save_interval=4),
            smd.modes.EVAL: smd.SaveConfigMode(save_interval=2, start_step=2, end_step=7),
        }
        return smd.Hook(out_dir=out, save_config=smd.SaveConfig(config))
    if case == "json":
        path = Path(out).with_suffix(".json")
        document = {
            "LocalPath": out,
            "HookParameters": {"train.save_interval": "5", "eval.save_interval": "2", "start_step": "1"},
            "CollectionConfigurations": [
                {
                    "CollectionName": "CrossEntropyLoss_output_0",
                    "CollectionParameters": {
                        "include_regex": "CrossEntropyLoss_output_0",
                        "train.save_interval": "3",
                        "eval.save_interval": "1",
                    },
                },
                {"CollectionName": "gradients"},
                {
                    "CollectionName": "relu",
                    "CollectionParameters": {"include_regex": ".*relu_output", "reductions": "max,abs_mean,l2_norm"},
                },
            ],
        }
        path.write_text(json.dumps(document))
        return smd.Hook.create_from_json_file(str(path))
    return smd.Hook(out_dir=out, save_all=True, save_config=smd.SaveConfig(save_interval=4, save_steps=[5]))


def train(case: str, out: str) -> None:
    """Some steps and evaluations of the case."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model, criterion = ResNet(), nn.CrossEntropyLoss()
    hook = hook_of(case, out)
    if case == "hook_only":
        hook.register_hook(model)
    else:
        hook.register_module(model)
        hook.register_loss(criterion)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for mode in ("TRAIN", "EVAL"):
            if case != "hook_only":
                hook.set_mode(smd.modes[mode])
            model.train(mode == "TRAIN")
            for step in range(7 if mode == "TRAIN" else 5):
                if case == "hook_only" and mode == "EVAL":
                    continue  # without set_mode they count what follows as one mode, ours by the model's own
                images, labels = torch.randn(6, 3, 8, 8), torch.randint(0, 5, (6,))
                with torch.set_grad_enabled(mode == "TRAIN"):
                    loss = criterion(model(images), labels)
                if mode == "TRAIN":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if case == "both" and step % 2 == 0:
                    hook.save_scalar(f"accuracy_{epoch}", 0.5 * step)
    hook.close()


def told(trial: Any) -> dict[str, Any]:
    """Everything that a trial says."""
    found: dict[str, Any] = {
        "names": trial.tensor_names(),
        "modes": sorted(each.name for each in trial.modes()),
        "steps": {each.name: [int(step) for step in trial.steps(mode=each)] for each in smd.modes},
        "workers": trial.workers(),
        "losses": sorted(trial.tensor_names(collection="losses")),
        "gradients": sorted(trial.tensor_names(regex="^gradient")),
        "tensors": {},
    }
    for name in trial.tensor_names():
        tensor = trial.tensor(name)
        own: dict[str, Any] = {}
        found["tensors"][name] = own
        for mode in smd.modes:
            own[mode.name] = {}
            for step in tensor.steps(mode=mode):
                entry: dict[str, Any] = {"before": [int(each) for each in tensor.prev_steps(step, 3, mode)]}
                own[mode.name][int(step)] = entry
                try:
                    value = np.asarray(tensor.value(step, mode=mode))
                    entry["shape"], entry["kind"] = list(value.shape), str(value.dtype)
                    entry["value"] = value.astype(np.float64).reshape(-1)[:7].tolist()
                    entry["std"] = float(tensor.reduction_value(step, "std", mode=mode))
                    entry["norm"] = (
                        float(tensor.reduction_value(step, "l2", mode=mode, abs=True)) if value.ndim == 1 else 0
                    )
                except SMDebugError as error:
                    entry["error"] = type(error).__name__
                    entry["shape"] = list(tensor.shape(step, mode=mode)) if name.startswith(("Res", "grad")) else 0
                entry["reductions"] = {
                    f"{key}-{absolute}": float(number)
                    for (key, absolute), number in tensor.reduction_values(step, mode=mode).items()
                }
    return found


if __name__ == "__main__":
    place, every = Path(sys.argv[1]), {}
    for asked in sys.argv[2:]:
        train(asked, str(place / asked))
        smd.del_hook()
        every[asked] = told(create_trial(str(place / asked)))
    print("TOLD " + json.dumps(every))
