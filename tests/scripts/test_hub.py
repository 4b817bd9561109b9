"""Weights that are there, weights that are not, and pickles, in a script's own process."""

import os
import time
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest

from houndsight.scripts import guards
from houndsight.verbs.run import script_spec
from houndsight.workspace import Workspace
from tests.contract.conftest import Ran, again


def free_port() -> int:
    """A port at which nobody listens."""
    with closing(create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


def test_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with create_server(("127.0.0.1", 0)) as server:
        there = f"http://127.0.0.1:{server.getsockname()[1]}/a.pth"
        assert guards.unreachable(there) == ""
        monkeypatch.setenv("https_proxy", there)
        assert guards.unreachable("https://download.example/a.pth") == ""
    closed = f"127.0.0.1:{free_port()}"
    assert guards.unreachable(f"http://{closed}/a.pth") == "127.0.0.1 cannot be reached (Connection refused)"
    monkeypatch.setenv("https_proxy", closed)
    assert "127.0.0.1 cannot be reached" in guards.unreachable("https://download.example/a.pth")
    assert guards.unreachable("file:///a.pth") == ""


LOADS = """
import os, sys, time, torch
from torch.hub import load_state_dict_from_url
print("there", sorted(load_state_dict_from_url("https://download.pytorch.org/models/there-12345678.pth")))
whole = os.path.join(os.environ["SM_MODEL_DIR"], "whole.pth")
torch.save(torch.nn.Linear(2, 2), whole)
for file in (whole, open(whole, "rb")):
    try:
        print(torch.load(file))
    except Exception as error:
        print(type(error).__name__, error)
began = time.monotonic()
try:
    torch.hub.load("pytorch/vision:v0.10.0", "resnet18", pretrained=True)
except Exception as error:
    print(type(error).__name__, error)
print("seconds", int(time.monotonic() - began))
load_state_dict_from_url("https://download.pytorch.org/models/absent-87654321.pth")
"""


@pytest.mark.slow
def test_weights_and_pickles(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    cache = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save({"weight": torch.zeros(1)}, cache / "there-12345678.pth")
    script = tmp_path / "train.py"
    script.write_text(LOADS)

    def run(trust: bool = False) -> Ran:
        began = time.monotonic()
        ran = again(workspace.create(script_spec(script, trust_pickle=trust)))
        assert time.monotonic() - began < 60
        return ran

    ran = run()
    lines = ran.log.splitlines()
    assert "there ['weight']" in lines
    refused = "UnpicklingError whole.pth holds more than tensors"
    assert [line.startswith(refused) and "--trust-pickle" in line for line in lines if "Unpickling" in line] == [
        True
    ] * 2
    assert "seconds 0" in lines
    assert any(line.startswith("WeightsNotFoundError torch.hub asks for https://api.github.com") for line in lines)
    assert ran.error is not None
    for said in (
        "absent-87654321.pth is not in the weights cache",
        "127.0.0.1 cannot be reached",
        "weights add absent-8",
    ):
        assert said in ran.error.message
    assert ran.outcome.error.startswith("houndsight.WeightsNotFoundError: absent-87654321.pth")
    assert "guards.py" not in ran.log
    ran = run(trust=True)
    assert ran.log.count("Linear(in_features=2") == 2
