"""Scripts that run in a fork of this process, watched or not: as a warm start does it, without importing torch anew."""

import atexit
import json
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from houndsight.folders import JobFolder
from houndsight.scripts import afterwards, armed, ready, session  # noqa: F401 - the same
from houndsight.spec import Finding, ScriptSpec

torch.optim.SGD([torch.zeros(1)], 0.1)  # imports 5 s of torch: here, once, for all forks


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


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a script's text in a fork; `watched` or not, `before` something else is done in the fork."""

    def played(
        text: str, *, name: str = "job", watched: bool = True, before: Callable[[], None] | None = None, **settings: Any
    ) -> Played:
        job = JobFolder(tmp_path / name)
        for each in (job.input / "config", job.code, job.records, job.model):
            each.mkdir(parents=True, exist_ok=True)
        script = job.code / "train.py"
        script.write_text(text, encoding="utf-8")
        spec = ScriptSpec(entry_point="train.py", source_dir=str(tmp_path), **settings)
        variables = {**ready.make(job, spec), "SM_MODEL_DIR": str(job.model), "SAGEMAKER_BASE_DIR": str(job.path)}
        job.spec.write_text(spec.model_dump_json())
        output = job.path / "out.txt"
        pid = os.fork()
        if pid == 0:
            _become(script, variables, output, before, watched=watched)
        _, ended = os.waitpid(pid, 0)
        return Played(job, spec, os.waitstatus_to_exitcode(ended), output.read_text(encoding="utf-8"))

    return played


def _become(
    script: Path, variables: dict[str, str], output: Path, before: Callable[[], None] | None, *, watched: bool
) -> None:
    code = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.excepthook = sys.__excepthook__
        atexit._clear()
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        os.environ.update(variables)
        os.chdir(script.parent)
        sys.argv = [str(script)]
        if watched:
            armed.arm(variables["HOUNDSIGHT_HOOK"])
        if before is not None:
            before()
        code = _run(script)
    except BaseException:  # noqa: BLE001 - a fork of a test process does not go on as one
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


def _run(script: Path) -> int:
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:  # noqa: BLE001 - shown as Python shows it
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 1
    return 0
