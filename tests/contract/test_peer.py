"""The same configuration folder through `sagemaker-training` and through Houndsight: same variables, arguments, ends.

Needs `HOUNDSIGHT_PEERS`, a folder for the environments of other projects' packages; theirs is made there once
(`sagemaker-training` and `sagemaker-pytorch-training`, 25 packages). The differences that are listed here are explained
in docs/sagemaker-scripts.md.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers import python_of

from .conftest import Ran, RunIt

PACKAGES = ("sagemaker-training==5.1.4", "sagemaker-pytorch-training==3.0.0")
FRAMEWORK = "sagemaker_pytorch_container.training:main"

SEE = """
import json, os, sys
place = os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json")
json.dump({"argv": sys.argv, "cwd": os.getcwd(), "environ": dict(os.environ)}, open(place, "w"))
"""

OTHER_VALUE = {
    "SM_FRAMEWORK_MODULE": "no framework's module runs here",
    "SM_TRAINING_ENV": "holds framework_module",
    "MASTER_ADDR": "algo-1 is no name on this machine",
    "PYTHONPATH": "theirs is their own sys.path",
    "PATH": "begins with the folder of the Python that runs the script",
    "SM_DLC_TORCH_VERSION": "torch is not in their environment",
}
ONLY_HERE = {
    *("TRAINING_JOB_ARN", "AWS_REGION", "TMPDIR", "SM_DLC_TORCH_VERSION"),
    *("PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE"),
    *("HOUNDSIGHT_HOOK", "HOUNDSIGHT_HUB"),
}
"""Set by SageMaker's platform and by its images, not by the toolkit; the last two tell our watcher what to do."""
ONLY_THERE = {"SAGEMAKER_TRAINING_MODULE", "SM_STUDIO_LOCAL_MODE", "LC_CTYPE"}

HYPERPARAMETERS = {
    "lr": 0.01,
    "batch-size": 64,
    "k": "v",
    "on": True,
    "no": None,
    "eps": 1e-9,
    "d": {"b": 1, "a": [1, 2], "c": {"x": None}},
    "list": [1, "two", None, True],
    "text": "two  words ä; $HOME `ls`\nnext line",
    "number as text": "0.10",
    "quoted": '"128"',
    "empty": "",
    "big": 12345678901234567890,
    "_tuning_objective_metric": "loss",
    "sagemaker_toolkit_setting": {"a": 1},
}

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="session")
def peer() -> Path:
    """The Python of an environment that holds the toolkits."""
    return python_of("sagemaker-training", PACKAGES)


@dataclass(frozen=True)
class Theirs:
    """What the toolkit did with a job's folder."""

    code: int
    failure: str | None
    seen: Any


def theirs(peer: Path, ran: Ran) -> Theirs:
    """Run the toolkit on the folder of a job that Houndsight has run."""
    job = ran.job
    shutil.rmtree(job.output)
    (job.output / "data").mkdir(parents=True)
    environ = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "SAGEMAKER_BASE_DIR": str(job.path),
        "SM_STUDIO_LOCAL_MODE": "true",  # or it waits 15 minutes for the host algo-1 to have an address
        "TRAINING_JOB_NAME": job.name,
        "SAGEMAKER_TRAINING_MODULE": FRAMEWORK,
    }
    train = peer.with_name("train")
    done = subprocess.run([str(train)], env=environ, capture_output=True, text=True, check=False, timeout=120)
    seen = job.output / "data" / "seen.json"
    failure = job.failure.read_text() if job.failure.is_file() else None
    return Theirs(done.returncode, failure, json.loads(seen.read_text()) if seen.is_file() else {})


def without_place(text: str) -> str:
    """A failure text without what differs by design: the interpreter, and the platform's own prefix."""
    return re.sub(r'(Command ")\S+', r"\1PYTHON", text.removeprefix("AlgorithmError: "))


def test_variables_arguments_and_folder(
    peer: Path, run_it: RunIt, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("LC_", "OMP_", "AWS_", "TORCH_"))]:
        monkeypatch.delenv(name)
    ran = run_it(
        code=SEE,
        channels={"training": digits, "Test-1": digits / "test"},
        hyperparameters=HYPERPARAMETERS,
        name="same",
    )
    ours = json.loads((ran.job.output / "data" / "seen.json").read_text())
    other = theirs(peer, ran)
    assert other.code == 0
    assert ours["argv"] == other.seen["argv"]
    assert ours["cwd"] == other.seen["cwd"]
    mine, yours = ours["environ"], other.seen["environ"]
    assert set(mine) - set(yours) >= ONLY_HERE
    assert not [name for name in set(mine) - set(yours) - ONLY_HERE if mine[name] != os.environ.get(name)]
    assert set(yours) - set(mine) <= ONLY_THERE
    differing = {name for name in set(mine) & set(yours) if mine[name] != yours[name]}
    assert differing <= set(OTHER_VALUE)
    whole, their_whole = json.loads(mine["SM_TRAINING_ENV"]), json.loads(yours["SM_TRAINING_ENV"])
    assert {**whole, "framework_module": FRAMEWORK} == their_whole


FAILURES = {
    "raised": "raise ValueError('bad  thing: ä')",
    "nested": "def f(x):\n    return {}[x]\nprint('Epoch 1')\nf('missing')",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise RuntimeError('two\\nlines') from e",
    "import": "import no_such_module_at_all",
    "syntax": "def f(:\n",
    "code": "import os\nos._exit(7)",
    "file": "open('/no/such/file')",
    "memory": "raise MemoryError",
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_texts(peer: Path, run_it: RunIt, name: str) -> None:
    ran = run_it(code=FAILURES[name], hyperparameters={"lr": 0.1, "list": [1, 2]}, name=name)
    assert ran.error is not None
    mine = ran.job.failure.read_text()
    other = theirs(peer, ran)
    assert other.code == 1
    assert other.failure is not None
    assert without_place(mine) == without_place(other.failure)


def test_where_the_texts_differ(peer: Path, run_it: RunIt) -> None:
    ran = run_it(code="import argparse; argparse.ArgumentParser().parse_args()", hyperparameters={"typo": 1})
    mine = ran.job.failure.read_text()
    other = theirs(peer, ran)
    assert other.failure is not None
    assert 'ErrorMessage ""' in other.failure
    assert "unrecognized arguments" in mine
    ran = run_it(code="import os; os.kill(os.getpid(), 9)")
    mine = ran.job.failure.read_text()
    other = theirs(peer, ran)
    assert other.failure is not None
    assert "ExitCode -9\n" in other.failure
    assert "ExitCode 137\n" in mine


def test_a_failure_of_the_scripts_own_words(peer: Path, run_it: RunIt) -> None:
    code = "import os, sys; open(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('mine'); sys.exit(1)"
    ran = run_it(code=code)
    assert ran.job.failure.read_text() == "mine"
    assert theirs(peer, ran).failure == "mine"


def test_a_shell_script(peer: Path, run_it: RunIt) -> None:
    code = 'echo "[\\"$1\\", \\"$2\\"]" > "$SM_OUTPUT_DATA_DIR/seen.json"; exit 5'
    ran = run_it("train.sh", code=code, hyperparameters={"name": "two words; exit 0"})
    mine = json.loads((ran.job.output / "data" / "seen.json").read_text())
    code_here = ran.outcome.exit_code
    other = theirs(peer, ran)
    assert mine == other.seen == ["--name", "two words; exit 0"]
    assert code_here == 5
    assert "ExitCode 5" in (other.failure or "")
