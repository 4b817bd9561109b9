"""What is recorded of a script that was never changed, and what is found in it, however it trains and ends."""

import json
import os
import signal

import numpy as np
import pytest

from houndsight.errors import SpecError
from houndsight.records.facts import read_facts
from houndsight.records.profiling import run as runs
from houndsight.records.reader import Records
from houndsight.records.rules.named import named
from houndsight.records.tensors import TensorRecords

from .conftest import Play

HEAD = """
import gc, os, signal, sys, weakref
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
centres = torch.randn(4, 3, 8, 8)
labels = torch.arange(64) % 4
images = centres[labels] + 0.3 * torch.randn(64, 3, 8, 8)
loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3); self.norm = nn.BatchNorm2d(6); self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(216, 4)
    def forward(self, x):
        return self.fc(self.relu(self.norm(self.conv(x))).flatten(1))

def epoch(net, optimizer, loss=nn.CrossEntropyLoss()):
    net.train()
    for x, y in loader:
        optimizer.zero_grad(); loss(net(x), y).backward(); optimizer.step()

def valid(net):
    net.eval()
    with torch.no_grad():
        for x, y in loader:
            F.cross_entropy(net(x), y)
"""
PLAIN = "net = Net(); optimizer = torch.optim.SGD(net.parameters(), 0.01)\n"


def test_losses_tensors_and_times_of_a_plain_script(play: Play) -> None:
    text = HEAD + "net = Net(); optimizer = torch.optim.Adam(net.parameters(), 1e-3)\n"
    done = play(text + "for _ in range(3): epoch(net, optimizer); valid(net)\n")
    assert (done.code, done.said) == (0, "")
    records = Records(done.job.records)
    steps, losses = records.curve("loss")
    assert steps.tolist() == list(range(12))
    assert losses[-1] < losses[0]
    assert records.curve("accuracy", "valid")[0].tolist() == [3, 7, 11]
    assert records.curve("lr")[1].tolist() == [1e-3] * 12
    tensors = TensorRecords(done.job.records)
    first = tensors.read(0, "train")
    assert first is not None
    names = first.names
    assert {"gradient/fc.weight", "weight/conv.weight", "update/fc.bias", "input/relu", "inputs", "logits"} <= set(
        names
    )
    low = first.values[names.index("input/relu")]
    assert np.nanmin(low) < 0, "the input of the activation is taken before it works in place"
    facts = read_facts(done.job.records)
    assert (facts["num_classes"], facts["loss"], facts["optimizer"], facts["samples"]) == (
        4,
        "cross_entropy",
        "Adam",
        64,
    )
    loop = runs.read(done.job.records)
    assert (loop.facts.steps, loop.facts.workers, loop.facts.batch_size) == (12, 0, 16)
    assert {"data", "forward", "backward", "optimizer", "evaluate"} <= {name for name, _, _ in loop.timeline.phases()}
    found = done.found()
    assert len(found) >= 38
    assert {each.status for rule in found.values() for each in rule} <= {"NoIssuesFound", "NotApplicable"}
    assert found["saturated_activation"][0].status == "NotApplicable"


def test_trainings_one_after_another_go_on_in_one_course_of_steps(play: Play) -> None:
    text = """
alive = []
for fold in range(3):
    net = Net(); optimizer = torch.optim.SGD(net.parameters(), 0.05)
    gc.collect(); print([each() is None for each in alive])
    epoch(net, optimizer); epoch(net, optimizer)
    optimizer = torch.optim.SGD(net.fc.parameters(), 0.01)  # goes on with its head alone
    epoch(net, optimizer)
    alive.append(weakref.ref(net))
"""
    done = play(HEAD + text)
    assert done.said.splitlines() == ["[]", "[True]", "[True, True]"], "a model that is over is not kept alive"
    assert done.watcher == done.watcher | {"state": "ended", "steps": 36}
    steps, losses = Records(done.job.records).curve("loss")
    assert steps.tolist() == list(range(36))
    assert losses[12] > losses[11]
    saved = TensorRecords(done.job.records).steps(mode="train")
    assert {0, 12, 24} <= set(saved.tolist())


def test_parts_of_models_pairs_of_optimizers_and_losses_of_its_own(play: Play) -> None:
    text = """
net = Net(); body, head = nn.Sequential(net.conv, net.norm, net.relu), net.fc
one, two = torch.optim.SGD(body.parameters(), 0.01), torch.optim.SGD(head.parameters(), 0.01)
for x, y in loader:
    one.zero_grad(); two.zero_grad()
    (body(x).flatten(1) @ head.weight.T + head.bias).logsumexp(1).mean().backward()
    one.step(); two.step()
"""
    done = play(HEAD + text)
    assert done.watcher["state"] == "ended"
    steps, losses = Records(done.job.records).curve("loss")
    assert steps.tolist() == [0, 1, 2, 3]
    assert np.isfinite(losses).all()
    names = {each["name"] for each in read_facts(done.job.records)["parameters"] if each["in_optimizer"]}
    assert len(names) == 6, names


def test_evaluation_that_keeps_gradients_is_found_with_its_line(play: Play) -> None:
    text = PLAIN + "for _ in range(2):\n    epoch(net, optimizer)\n"
    done = play(HEAD + text + "    net.eval()\n    for x, y in loader:\n        given = net(x)  # here\n")
    [finding] = done.found()["no_grad"]
    line = (HEAD + text).count("\n") + 3
    assert (finding.evidence["file"], finding.evidence["line"], finding.evidence["passes"]) == ("train.py", line, 4)
    assert "torch.no_grad()" in finding.repair
    assert done.said == ""


def test_training_in_eval_mode_is_training(play: Play) -> None:
    text = PLAIN + "epoch(net, optimizer); valid(net)\n"
    more = "for _ in range(3):\n    for x, y in loader:\n"
    done = play(
        HEAD + text + more + "        optimizer.zero_grad(); F.cross_entropy(net(x), y).backward(); optimizer.step()\n"
    )
    found = done.found()
    assert "no_grad" not in found
    assert len(Records(done.job.records).curve("loss")[0]) >= 15, "no more than the first step is taken for another"


def test_a_script_that_is_killed_leaves_what_it_wrote(play: Play) -> None:
    text = "net = Net(); optimizer = torch.optim.SGD(net.parameters(), float('inf'))\n"
    text += "for _ in range(4): epoch(net, optimizer)\n"
    end = "import time; time.sleep(1.5)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    done = play(HEAD + text + end)
    assert done.code == -signal.SIGKILL
    assert done.watcher["state"] == "running"
    assert len(Records(done.job.records).curve("loss")[0]) == 16
    found = done.found()
    assert all(each.status != "InProgress" for rule in found.values() for each in rule)
    assert found["nonfinite_origin"][0].status == "IssuesFound", found["nonfinite_origin"]
    written = json.loads(done.job.findings.read_bytes())["findings"]
    assert {each["rule"] for each in written} == set(found)


def test_a_mistake_of_the_watcher_is_not_the_scripts(play: Play) -> None:
    broken = "from houndsight.watch.debugger import Debugger\nDebugger.before_forward = Debugger.forward_over = None\n"
    text = PLAIN + "epoch(net, optimizer); epoch(net, optimizer)\n"
    done = play(HEAD + text + "print('done', nn.Module.__call__.__module__)\n", before=broken)
    assert (done.code, done.said) == (0, "done torch.nn.modules.module\n")
    assert done.watcher["state"] == "broken"
    [own] = done.found()["debugger"]
    assert own.status == "Error"
    assert "TypeError" in own.message


def test_children_and_workers_are_left_alone(play: Play) -> None:
    text = """
loader = DataLoader(TensorDataset(images, labels), batch_size=16, num_workers=2)
net = Net(); optimizer = torch.optim.SGD(net.parameters(), 0.01)
epoch(net, optimizer)
pid = os.fork()
if pid == 0:
    other = Net(); epoch(other, torch.optim.SGD(other.parameters(), 0.01))
    from houndsight.scripts import session
    print(session.current(), nn.Module.__call__.__code__.co_filename.endswith("module.py"), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
epoch(net, optimizer)
"""
    done = play(HEAD + text)
    assert done.said == "None True\n"
    assert Records(done.job.records).curve("loss")[0].tolist() == list(range(8))
    facts = runs.read(done.job.records).facts
    assert (facts.workers, facts.worker_kind) == (2, "processes")


def test_it_steps_aside_for_a_debugger_that_the_script_asks_for(play: Play) -> None:
    text = """
import houndsight
net = Net(); optimizer = torch.optim.SGD(net.parameters(), 0.01)
epoch(net, optimizer)
with houndsight.debug(net, optimizer, interval=1): epoch(net, optimizer)
"""
    done = play(HEAD + text)
    assert done.watcher["state"] == "aside", done.said
    assert done.code == 0


def test_off_is_off(play: Play) -> None:
    text = PLAIN + "epoch(net, optimizer)\n"
    done = play(HEAD + text, debug="off")
    assert os.listdir(done.job.records) == []
    assert done.found() == {}


def test_rules_by_either_name() -> None:
    asked = named(
        ["VanishingGradient:threshold=1e-7", "overfit:patience=3", "dead_relu:off", "StalledTrainingRule",
         "LowGPUUtilization:threshold_p95=60", "ProfilerReport:CPUBottleneck_threshold=70", "BatchSize:off"]
    )  # fmt: skip
    assert asked.debugger == (
        "vanishing_gradient:threshold=1e-7",
        "overfit:patience=3",
        "dead_relu:off",
        "stalled_training",
    )
    assert asked.profiler["LowGPUUtilization"] == {"threshold_p95": 60.0}
    assert asked.off == {"BatchSize"}
    for wrong in ("Vanishing", "TreeDepth", "LowGPUUtilization:threshold_p95=much", "BatchSize:colour=1"):
        with pytest.raises(SpecError):
            named([wrong])
