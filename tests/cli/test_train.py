"""`houndsight train` in processes of its own: followed, interrupted, resumed, refused, detached, into a closed pipe."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import houndsight
from houndsight.workspace import Workspace

from ..verbs.conftest import SETTINGS, pictures
from .conftest import Type

__all__ = ["pictures"]

Start = Callable[..., "subprocess.Popen[str]"]


def flags(**changed: object) -> list[str]:
    """The settings of a short training as they are typed."""
    return [
        word for name, value in (SETTINGS | changed).items() for word in (f"--{name.replace('_', '-')}", str(value))
    ]


@pytest.mark.slow
def test_interrupted_then_resumed_to_the_end(started: Start, workspace: Workspace, pictures: Path) -> None:
    command = started("train", pictures, "--name", "stopped", *flags(steps=300), "--json")
    assert command.stderr is not None
    for line in command.stderr:
        if line.startswith("Epoch 1:"):
            command.send_signal(signal.SIGINT)
            break
    out, err = command.communicate(timeout=120)
    assert command.returncode == 1
    assert json.loads(out)["state"] == "STOPPED"
    assert "houndsight train --resume stopped" in err
    assert "Traceback" not in err

    again = started("train", "--resume", "stopped")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "stopped: COMPLETED" in out
    assert "houndsight predict stopped" in out
    assert houndsight.open_job("stopped").metrics["test"]["top1"].n == 6


@pytest.mark.slow
def test_on_a_terminal_a_bar_in_a_pipe_lines(started: Start, workspace: Workspace, pictures: Path) -> None:
    ours, theirs = pty.openpty()
    command = started("train", pictures, "--name", "bar", *flags(), stderr=theirs, env={"TERM": "xterm-256color"})
    os.close(theirs)
    drawn = b""
    while True:
        try:
            fresh = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        drawn += fresh
    out, _ = command.communicate(timeout=60)
    assert command.returncode == 0
    assert b"\x1b[" in drawn
    assert b"Epoch 1:" in drawn
    assert "\x1b" not in out
    assert "test accuracy" in out
    assert str(workspace.job("bar").report) in out


@pytest.mark.slow
def test_detached_then_followed(started: Start, typed: Type, workspace: Workspace, pictures: Path) -> None:
    said = typed("train", pictures, "--name", "alone", "--detach", "--json", *flags())
    assert said.code == 0
    assert said.document["state"] in ("QUEUED", "RUNNING")
    follower = started("logs", "alone", "-f")
    out, _ = follower.communicate(timeout=120)
    assert follower.returncode == 0
    assert "Epoch 1:" in out
    assert houndsight.open_job("alone").state == "COMPLETED"


@pytest.mark.slow
def test_refused_by_the_worker(typed: Type, workspace: Workspace, pictures: Path) -> None:
    said = typed("train", pictures, "--json", *flags(backbone="shuflenet_v2_x0_5"))
    assert said.code == 2
    assert said.document["error"]["kind"] == "ModelError"
    assert "shufflenet_v2_x0_5" in said.document["error"]["message"] + said.document["error"]["repair"]
    assert list(workspace.jobs.iterdir()) == []


def test_a_closed_pipe_is_quiet(started: Start, workspace: Workspace) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = started("--help", stdout=writer)
    os.close(writer)
    _, err = command.communicate(timeout=30)
    assert err == ""
    assert command.returncode == 1


def test_a_full_disk_is_said(started: Start, workspace: Workspace) -> None:
    with open("/dev/full", "w") as full:
        command = started("jobs", "--json", stdout=full)
        _, err = command.communicate(timeout=30)
    assert command.returncode == 1
    assert "Traceback" not in err
