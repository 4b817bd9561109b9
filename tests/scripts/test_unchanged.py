"""A watched script gives what it gives unwatched: weights to the last bit, chance, output, tracebacks, files."""

import hashlib
from pathlib import Path

import pytest

from .conftest import Play, Played

TRAININGS = """
import copy, io, os, random, sys
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Flatten(),
                         nn.Linear(216, 4))

torch.manual_seed(0); random.seed(0); np.random.seed(0)
data = TensorDataset(torch.randn(48, 3, 8, 8), torch.randint(0, 4, (48,)))
saved = {}

def train(name, make, *, accumulate=1, half=False, loss=nn.CrossEntropyLoss(), epochs=4):
    model = net()
    optimizer = make(model.parameters())
    best = None
    for epoch in range(epochs):
        model.train()
        for at, (x, y) in enumerate(DataLoader(data, batch_size=8, shuffle=True)):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                given = model(x)
                found = loss(given, y) / accumulate
            found.backward()
            if (at + 1) % accumulate == 0:
                optimizer.step(); optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            print(name, epoch, float(sum(F.cross_entropy(model(x), y) for x, y in DataLoader(data, batch_size=16))))
        best = copy.deepcopy(model.state_dict())
    saved[name] = best
    return model

train("sgd", lambda p: torch.optim.SGD(p, 0.05, momentum=0.9))
train("adam", lambda p: torch.optim.AdamW(p, 1e-3))
train("half", lambda p: torch.optim.Adam(p, 1e-3, foreach=False), half=True)
train("accumulated", lambda p: torch.optim.SGD(p, 0.05), accumulate=2, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
train("own loss", lambda p: torch.optim.RMSprop(p, 1e-3), loss=lambda o, y: (o.sigmoid()[:, 0] - y / 4).square().mean())

torch.manual_seed(2)  # two optimizers in turn, one of them more often
maker, critic = nn.Linear(5, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
first, second = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)
for at in range(30):
    second.zero_grad()
    F.binary_cross_entropy_with_logits(critic(maker(torch.randn(4, 5)).detach()), torch.zeros(4, 1)).backward()
    second.step()
    if at % 3 == 0:
        first.zero_grad()
        F.binary_cross_entropy_with_logits(critic(maker(torch.randn(4, 5))), torch.ones(4, 1)).backward()
        first.step()
saved["pair"] = [maker.state_dict(), critic.state_dict()]

model = train("last", lambda p: torch.optim.SGD(p, 0.05), epochs=1)
torch.save(model, os.path.join(os.environ["SM_MODEL_DIR"], "whole.pth"))
torch.jit.script(model).save(os.path.join(os.environ["SM_MODEL_DIR"], "scripted.pt"))

class Lossy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.net(x), y)

print(float(torch.jit.script(Lossy().eval())(data.tensors[0], data.tensors[1])))
print(float(torch.jit.trace(model, data.tensors[0])(data.tensors[0]).sum()))
torch.save(saved, os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"))
print(torch.rand(3), random.random(), np.random.rand(), torch.get_rng_state().sum())
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_weights_chance_and_output_are_those_of_the_script_alone(play: Play) -> None:
    alone, seen = play(TRAININGS, name="alone", watched=False), play(TRAININGS, name="seen")
    assert alone.code == 0, alone.said
    assert seen.said.replace("/seen/", "/alone/") == alone.said
    assert seen.watcher["state"] == "ended", seen.watcher
    assert seen.watcher["steps"] >= 140
    assert not (alone.job.records / "watcher.json").exists()
    for name in ("model.pth", "whole.pth"):
        assert digest(seen.job.model / name) == digest(alone.job.model / name), name


FAILURES = {
    "in a module": "net(torch.randn(2, 4, 8, 8))",
    "in the loss": "nn.CrossEntropyLoss()(net(x), torch.zeros(3, dtype=torch.long))",
    "in a function": "F.cross_entropy(net(x), torch.full((2,), 9))",
    "backward": "net(x).backward()",
    "in the optimizer": "torch.optim.SGD([], 0.1)",
    "of the script": "helper(lambda: net(x).sum().item() / 0)",
    "chained": "chained()",
    "in a hook of its own": "net[0].register_forward_hook(lambda *_: 1 / 0); net(x)",
    "leaves": "sys.exit(3)",
    "leaves with words": "sys.exit('no more')",
}
FAILING = """
import sys, torch
from torch import nn
from torch.nn import functional as F

def helper(call):
    return call()

def chained():
    try:
        net(torch.randn(1, 5, 8, 8))
    except RuntimeError as error:
        raise ValueError("wrong shape") from error

net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
optimizer = torch.optim.SGD(net.parameters(), 0.1)
x = torch.randn(2, 3, 8, 8)
for step in range({steps}):
    optimizer.zero_grad(); F.cross_entropy(net(x), torch.tensor([0, 1])).backward(); optimizer.step()
{failure}
"""


@pytest.mark.parametrize("steps", [0, 40])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_an_error_reads_as_that_of_the_script_alone(play: Play, failure: str, steps: int) -> None:
    text = FAILING.format(failure=failure, steps=steps)
    alone, seen = play(text, name="alone", watched=False), play(text, name="seen")
    assert _plain(seen) == _plain(alone)
    assert seen.code == alone.code
    assert seen.watcher["state"] == "ended"


def _plain(played: Played) -> str:
    return played.said.replace(str(played.job.path), "JOB")
