"""Scripts that run in a fork of a process that has torch, watched or not: as a warm start does it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from houndsight.folders import JobFolder
from houndsight.scripts import afterwards, ready
from houndsight.spec import Finding, ScriptSpec


@dataclass(frozen=True)
class Played:
    """A script that has run."""

    job: JobFolder
    spec: ScriptSpec
    code: int
    """Exit code; negative for a signal."""
    said: str
    """What it printed, both streams."""

    @property
    def watcher(self) -> dict[str, Any]:
        """How it stands with the watcher."""
        found: dict[str, Any] = json.loads((self.job.records / "watcher.json").read_bytes())
        return found

    def found(self) -> dict[str, list[Finding]]:
        """Rule -> its findings, as the job concludes them."""
        by_rule: dict[str, list[Finding]] = {}
        for each in afterwards.conclude(self.job, self.spec):
            by_rule.setdefault(each.rule, []).append(each)
        return by_rule


Play = Callable[..., Played]


@pytest.fixture(scope="session")
def stage() -> "Iterator[subprocess.Popen[str]]":
    """The process that is forked."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # scripts that fork themselves may then compute before and after
    command = [sys.executable, "-m", "tests.scripts.stage"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone, cwd=root
    ) as process:
        yield process


@pytest.fixture
def play(tmp_path: Path, stage: "subprocess.Popen[str]") -> Play:
    """Run a script's text in a fork; `watched` or not, where `before` is run in the fork first."""
    given, answers = stage.stdin, stage.stdout
    assert given is not None
    assert answers is not None

    def played(text: str, *, name: str = "job", watched: bool = True, before: str = "", **settings: Any) -> Played:
        job = JobFolder(tmp_path / name)
        for each in (job.input / "config", job.code, job.records, job.model):
            each.mkdir(parents=True, exist_ok=True)
        script = job.code / "train.py"
        script.write_text(text, encoding="utf-8")
        spec = ScriptSpec(entry_point="train.py", source_dir=str(tmp_path), **settings)
        variables = {**ready.make(job, spec), "SM_MODEL_DIR": str(job.model), "SAGEMAKER_BASE_DIR": str(job.path)}
        job.spec.write_text(spec.model_dump_json())
        output = job.path / "out.txt"
        print(json.dumps([str(script), variables, str(output), before, watched]), file=given, flush=True)
        code = int(answers.readline())
        return Played(job, spec, code, output.read_text(encoding="utf-8"))

    return played
