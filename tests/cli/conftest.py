"""Typing commands: in this process for what is quick, in a real one for what ends processes and closes pipes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from houndsight.cli.app import run
from houndsight.workspace import Workspace


@dataclass(frozen=True)
class Typed:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


Type = Callable[..., Typed]


@pytest.fixture
def typed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command and get what it wrote, in this process."""

    def run_here(*words: object) -> Typed:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return Typed(code, *capsys.readouterr())

    return run_here


HOUNDSIGHT = (sys.executable, "-c", "from houndsight.cli.app import main; main()")


@pytest.fixture
def started(workspace: Workspace) -> Callable[..., "subprocess.Popen[str]"]:
    """Type a command into a process of its own; the workspace is that of the test."""

    def start(*words: object, **options: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*HOUNDSIGHT, *map(str, words)],
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            env=os.environ | options.pop("env", {}),
            **options,
        )

    return start
