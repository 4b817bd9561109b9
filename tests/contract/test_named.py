"""Scripts that name /opt/ml themselves: found by file and line, given it for themselves alone, or refused."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from houndsight.backends import private
from houndsight.contract.named import mentions
from houndsight.errors import SpecError
from houndsight.verbs.run import run, script_spec
from houndsight.workspace import Workspace

from .conftest import RunIt

needs_namespaces = pytest.mark.skipif(bool(private.impossible()), reason=f"no namespaces: {private.impossible()}")

LITERAL = """
import json, os, sys
with open("/opt/ml/input/config/hyperparameters.json") as file:
    mine = json.loads(json.load(file)["mine"])
open("/opt/ml/model/" + mine, "w").write(mine)
open("/opt/ml/output/data/" + mine, "w").close()
for place, name in (("/opt/ml/model", "SM_MODEL_DIR"), ("/opt/ml/input/data/training", "SM_CHANNEL_TRAINING"),
                    ("/opt/ml/checkpoints", "SM_MODEL_DIR/../checkpoints"), ("/opt/ml/code", "SM_MODULE_DIR")):
    first, _, rest = name.partition("/")
    assert os.path.samefile(place, os.path.join(os.environ[first], rest)), place
print(sorted(os.listdir("/opt/ml/model")), sorted(os.listdir("/opt")), os.getpid() == os.getpgrp(), os.getuid())
"""


def found(tmp_path: Path, **files: str) -> list[tuple[str, str]]:
    paths = []
    for name, text in files.items():
        paths.append(tmp_path / name.replace("__", "."))
        paths[-1].write_text(text)
    return [(each.where, each.path) for each in mentions(tmp_path, paths, ["SM_CHANNEL_TRAINING"])]


def test_what_names_it(tmp_path: Path) -> None:
    code = '''"""Reads /opt/ml/model, as on SageMaker."""
# /opt/ml/input is where data lie
import os
ROOT = "/opt/ml/"
def train(folder="/opt/ml/input/data/training"):
    """From /opt/ml."""
    return f"{folder}/opt/ml/output/{ROOT}", "/opt/mlflow"
'''
    assert found(tmp_path, train__py=code) == [
        ("train.py, line 4", "/opt/ml"),
        ("train.py, line 5", "/opt/ml/input/data/training"),
        ("train.py, line 7", "/opt/ml/output"),
    ]
    shell = "#!/bin/sh\n# in /opt/ml\npython train.py --data /opt/ml/input/data/training\n"
    assert found(tmp_path, go__sh=shell) == [("go.sh, line 3", "/opt/ml/input/data/training")]
    assert found(tmp_path, settings__yaml="out: /opt/ml/model\n") == [("settings.yaml, line 1", "/opt/ml/model")]
    assert found(tmp_path, README__md="It lies in /opt/ml/model.") == []
    assert found(tmp_path, broken__py="def (:\nx = '/opt/ml/model'") == [("broken.py, line 2", "/opt/ml/model")]


@pytest.mark.parametrize(
    "code",
    [
        "import os; a = os.environ.get('SM_MODEL_DIR', '/opt/ml/model')",
        "import os; a = os.getenv('SM_CHANNEL_TRAINING', '/opt/ml/input/data/training')",
        "import os; a = os.environ.get('SM_MODEL_DIR') or '/opt/ml/model'",
        "import os; a = os.environ['SM_MODEL_DIR'] if 'SM_MODEL_DIR' in os.environ else '/opt/ml/model'",
    ],
)
def test_a_default_that_is_never_taken_names_nothing(tmp_path: Path, code: str) -> None:
    assert not found(tmp_path, train__py=code)
    other = code.replace("SM_MODEL_DIR", "SM_CHANNEL_OTHER").replace("SM_CHANNEL_TRAINING", "SM_CHANNEL_OTHER")
    assert found(tmp_path, train__py=other)  # that channel is not given


@needs_namespaces
def test_it_is_given_to_the_script_alone(run_it: RunIt, digits: Path) -> None:
    before = sorted(os.listdir("/opt")), Path("/proc/self/mountinfo").read_text()
    ran = run_it(code=LITERAL, channels=digits, hyperparameters={"mine": "a"})
    assert ran.state == "COMPLETED", ran.log
    assert ran.outcome.command[0] == sys.executable  # as it is without
    line = ran.log.splitlines()[-1]
    assert line.startswith("['a'] ")
    assert line.endswith(f"True {os.getuid()}")
    assert (ran.job.model / "a").read_text() == "a"
    assert (sorted(os.listdir("/opt")), Path("/proc/self/mountinfo").read_text()) == before
    assert set(before[0]) <= set(eval(line.partition("] ")[2].partition("]")[0] + "]"))


@needs_namespaces
def test_two_at_once_see_their_own(workspace: Workspace, tmp_path: Path, digits: Path) -> None:
    script = tmp_path / "own.py"
    met = tmp_path / "met"
    met.mkdir()
    wait = f"""
import time
open({str(met)!r} + "/" + mine, "w").close()
while len(os.listdir({str(met)!r})) < 2:
    time.sleep(0.01)
print(sorted(os.listdir("/opt/ml/model")))
"""
    script.write_text(LITERAL + wait)
    jobs = [run(script, channels=digits, hyperparameters={"mine": each}, name=each, wait=False) for each in "ab"]
    for job in jobs:
        job.wait()
        assert job.state == "COMPLETED", job.files.log.read_text()
        assert f"['{job.name}']\n" in job.files.log.read_text()
        assert [each.name for each in job.files.model.iterdir()] == [job.name]


@needs_namespaces
def test_codes_signals_and_what_is_left_behind(run_it: RunIt) -> None:
    ran = run_it(code="import sys; open('/opt/ml/model/x', 'w'); sys.exit(7)")
    assert (ran.state, ran.outcome.exit_code) == ("FAILED", 7)
    ran = run_it(
        code="import os, time; '/opt/ml'; os.fork() or time.sleep(600); os.kill(os.getpid(), 9)", opt_ml="always"
    )
    assert "ExitCode 137" in ran.job.failure.read_text()
    assert ran.outcome.killed == 1
    asked = threading.Event()
    code = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\n"
        "open('/opt/ml/model/x', 'w')\ntime.sleep(60)"
    )
    threading.Timer(1.0, asked.set).start()
    ran = run_it(code=code, stop=asked.is_set)
    assert ran.state == "STOPPED"
    assert ran.job.model_archive.is_file()


@needs_namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="has to become somebody else")
def test_an_ordinary_user_is_given_it_too() -> None:
    told = "open('/opt/ml/model/x', 'w').close(); import os; print(os.getuid(), os.getgid())"
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")  # one that is for everybody
    if python is None:
        pytest.skip("there is no Python for everybody")

    def become() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    with tempfile.TemporaryDirectory() as place:
        shutil.copy(private.__file__, f"{place}/private.py")
        Path(place, "model").mkdir()
        for each in (Path(place), Path(place, "model")):
            each.chmod(0o777)
        command = [python, "-I", "-S", f"{place}/private.py", place, python, "-I", "-c", told]
        done = subprocess.run(command, check=False, preexec_fn=become, capture_output=True, text=True, cwd="/")
        if "namespace" in done.stderr:
            pytest.skip(done.stderr)
        assert done.stdout == "65534 65534\n", done.stderr
        assert Path(place, "model", "x").is_file()


def test_it_is_refused_with_the_line_and_the_ways_out(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private, "impossible", lambda: "a namespace of its own: Operation not permitted")
    script = tmp_path / "train.py"
    script.write_text("a = 1\nopen('/opt/ml/model/x', 'w')\n")
    with pytest.raises(SpecError) as caught:
        script_spec(script)
    said = caught.value.message
    for part in ("train.py, line 2 names /opt/ml/model", "Operation not permitted", "SM_MODEL_DIR", "--opt-ml never"):
        assert part in said
    assert script_spec(script, opt_ml="never").opt_ml == "never"
    with pytest.raises(SpecError, match="model-dir names /opt/ml/model"):
        script_spec(script, opt_ml="auto", hyperparameters={"model-dir": "/opt/ml/model"})
    script.write_text("a = 1\n")
    assert script_spec(script).entry_point == "train.py"


def test_a_channel_that_it_would_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "PLACE", tmp_path / "ml")
    (tmp_path / "ml" / "data").mkdir(parents=True)
    script = tmp_path / "train.py"
    script.write_text("open('/opt/ml/model/x', 'w')\n")
    with pytest.raises(SpecError, match="which the script's own would hide"):
        script_spec(script, channels=tmp_path / "ml" / "data")
