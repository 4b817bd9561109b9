"""A forked script finds, does and leaves what one does that was started as a program."""

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from houndsight.backends import base
from houndsight.folders import JobFolder
from houndsight.reports.ran import ScriptOutcome

from .conftest import Yard, eventually, log, of

OBSERVE = Path(__file__).with_name("observe.py")
SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"


@pytest.fixture(autouse=True, scope="module")
def _warm(yard: Yard) -> None:
    yard.warm()


def said(job: JobFolder, word: str) -> Any:
    [line] = [each for each in log(job).splitlines() if each.startswith(word)]
    return json.loads(line.removeprefix(word))


@pytest.fixture(scope="module")
def pair(yard: Yard) -> tuple[JobFolder, JobFolder]:
    """The same script, cold and warm."""
    jobs = yard.job(OBSERVE, "observed-cold"), yard.job(OBSERVE, "observed-warm")
    for job, cold in zip(jobs, (True, False), strict=True):
        assert yard.run(job, cold).state == "COMPLETED", job.log.read_text()
    return jobs


def test_it_was_forked(pair: tuple[JobFolder, JobFolder]) -> None:
    assert [said(job, "DRAWN ")["warm"] for job in pair] == [False, True]


def test_it_finds_what_it_finds_cold(pair: tuple[JobFolder, JobFolder]) -> None:
    cold, warm = (said(job, "FACTS ") for job in pair)
    for fact, value in cold.items():
        assert warm[fact] == value, fact
    assert warm["workers"] == {method: [4, 6] for method in ("fork", "spawn", "forkserver")}


def test_the_logs_are_equal(pair: tuple[JobFolder, JobFolder]) -> None:
    cold, warm = ([line for line in log(job).splitlines() if not line.startswith("DRAWN")] for job in pair)
    assert cold == warm


def test_chance_is_not_shared(yard: Yard, pair: tuple[JobFolder, JobFolder]) -> None:
    again = yard.job(OBSERVE)
    assert yard.run(again).state == "COMPLETED"
    first, second = said(pair[1], "DRAWN "), said(again, "DRAWN ")
    assert first["random"] != second["random"]
    assert first["authkey"] != second["authkey"]


ENDS = {
    "nothing": "",
    "code": "import sys; sys.exit(7)",
    "words": "import sys; sys.exit('no data here')",
    "abrupt": "import os; os._exit(9)",
    "exception": "def f():\n    raise ValueError('b\\nc')\nf()",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise OSError('second') from e",
    "syntax": "def f(:",
    "system error": "open('/nowhere/at/all')",
    "killed": "import os; print('Epoch 3'); os.kill(os.getpid(), 9)",
    "interrupted": "raise KeyboardInterrupt",
    "interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "at exit": "import atexit, sys\natexit.register(print, 'last')\nprint('first'); sys.exit(3)",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.2), print('late'))).start()",
    "global": "class T:\n    def __del__(self): print('gone')\nt = T()",
    "unflushed": "import sys\nsys.stdout = open(1, 'w', closefd=False)\nprint('kept')",
    "C": "import ctypes; libc = ctypes.CDLL(None); libc.printf(b'from C')",
    "children": "import subprocess, sys\nprint(subprocess.check_output([sys.executable, '-c', 'print(5)']))",
    "not main": "import __main__\nprint(__main__.__file__, __name__)\nassert __main__.__dict__ is globals()",
    "warning": "import warnings\nwarnings.warn('careful')\nwarnings.warn('old', DeprecationWarning)",
    "source": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f), f.__module__)",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hooked', a[0], a[1])\n1 / 0",
}


QUICK = ("exception",)


@pytest.mark.parametrize("end", [pytest.param(end, marks=[] if end in QUICK else pytest.mark.slow) for end in ENDS])
def test_it_ends_as_cold(yard: Yard, end: str) -> None:
    jobs = yard.job(ENDS[end]), yard.job(ENDS[end])
    cold, warm = (yard.run(job, each) for job, each in zip(jobs, (True, False), strict=True))
    assert log(jobs[1]) == log(jobs[0])
    assert (warm.state, warm.exit_code) == (cold.state, cold.exit_code)
    first, second = (ScriptOutcome.read(job.script) for job in jobs)
    assert (second.exit_code, second.error) == (first.exit_code, first.error)
    if cold.state == "FAILED":
        assert jobs[1].failure.read_text().replace(jobs[1].name, "") == jobs[0].failure.read_text().replace(
            jobs[0].name, ""
        )


UNFIT = {
    "no torch": ("import sys\nprint('houndsight.warm' in sys.modules)", {}, False),
    "a name of ours": (
        "import sys\nprint('houndsight.warm' in sys.modules)  # torch",
        {"psutil.py": "mine = 1"},
        False,
    ),
    "a variable that is read at import": (
        "import os, sys\nos.environ['OMP_NUM_THREADS'] = '3'\nprint('houndsight.warm' in sys.modules)  # torch",
        {},
        False,
    ),
    "its own sitecustomize": (
        "import sys\nprint('houndsight.warm' in sys.modules)  # torch",
        {"sitecustomize.py": ""},
        False,
    ),
    "nothing against it": ("import sys\nprint('houndsight.warm' in sys.modules)  # torch", {"own.py": ""}, True),
}


@pytest.mark.parametrize("why", [pytest.param(why, marks=pytest.mark.slow if "its" in why else []) for why in UNFIT])
def test_a_script_that_would_find_something_else_starts_cold(yard: Yard, tmp_path: Path, why: str) -> None:
    code, files, warm = UNFIT[why]
    for name, text in {"script.py": code, **files}.items():
        (tmp_path / name).write_text(text)
    job = yard.job_of(tmp_path)
    assert yard.run(job).state == "COMPLETED"
    assert log(job).splitlines()[-1] == str(warm)


@pytest.mark.slow
def test_a_script_with_variables_of_its_own_starts_cold_once(yard: Yard) -> None:
    """They may be read at the start of Python: another warm process is needed."""
    code = "import os, sys\nprint(os.environ['MINE'], sys.flags.hash_randomization, 'houndsight.warm' in sys.modules)"
    job = yard.job(code, environment={"MINE": "1", "PYTHONHASHSEED": "0"})
    assert yard.run(job).state == "COMPLETED"
    assert log(job).splitlines()[-1] == "1 0 False"
    eventually(lambda: len(yard.sockets()) == 2)


@pytest.mark.slow
def test_a_setup_makes_it_a_module(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "setup.py").touch()
    (tmp_path / "script.py").write_text(
        "import sys  # torch\nprint(sys.argv, __name__, __spec__.name, sys.path[0], sys.orig_argv)\n"
        "print('WARM', 'houndsight.warm' in sys.modules, file=sys.stderr)\n1 / 0"
    )
    jobs = yard.job_of(tmp_path, hyperparameters={"a": 1}), yard.job_of(tmp_path, hyperparameters={"a": 1})
    for job, cold in zip(jobs, (True, False), strict=True):
        assert yard.run(job, cold).state == "FAILED"
    assert "WARM True" in log(jobs[1])
    assert log(jobs[1]).replace("WARM True", "WARM False") == log(jobs[0])


def test_a_stop_reaches_it_and_its_children(yard: Yard) -> None:
    code = """
import signal, subprocess, sys, os
from pathlib import Path
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", os.environ["SAGEMAKER_BASE_DIR"]],
                 start_new_session=True)
def leave(*_): print("told"); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
Path(os.environ["SAGEMAKER_BASE_DIR"], "ready").touch()
signal.pause()
"""
    job = yard.job(code)
    yard.backend.submit(job)
    eventually((job.path / "ready").exists)
    assert len(of(job.path)) == 3  # the monitor, the worker, and the script's child
    assert yard.backend.stop(job, 20.0).state == "STOPPED"
    assert "told" in log(job)
    assert of(job.path) == []


def test_the_processes_carry_the_name_of_the_job(yard: Yard) -> None:
    code = """
import os, time
from pathlib import Path
Path(os.environ["SAGEMAKER_BASE_DIR"], "ready").touch()
time.sleep(600)
"""
    job = yard.job(code, name="named")
    yard.backend.submit(job)
    eventually((job.path / "ready").exists)
    status = base.status(job)
    words = [" ".join(each.info["cmdline"]) for each in of(job.path)]
    assert sum("houndsight.backends.monitor" in each for each in words) == 1
    assert sum("houndsight.worker" in each for each in words) == 1
    [script] = [each for each in psutil.Process(status.pid).children() if "script.py" in each.cmdline()]
    assert script.cmdline() == [sys.executable, "--", "script.py"]
    assert script.environ()["SAGEMAKER_BASE_DIR"] == str(job.path)
    assert yard.backend.stop(job, 1.0).state == "STOPPED"
    assert of(job.path) == []
