"""Jobs that behave well and badly, for both back ends; `python jobs.py <job folder>` runs one as the worker does.

Which one it is stands where a classifier's spec names its data.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from houndsight.backends.base import Stop, execute
from houndsight.errors import DataError
from houndsight.folders import JobFolder
from houndsight.spec import ClassifierSpec

End = Literal["COMPLETED", "STOPPED"]


def quick(job: JobFolder, stop: Stop) -> End:
    return "COMPLETED"


def talk(job: JobFolder, stop: Stop) -> End:
    for line in range(100):
        print(f"line {line}", file=sys.stderr if line % 3 else sys.stdout)
    return "COMPLETED"


def refuse(job: JobFolder, stop: Stop) -> End:
    raise DataError("There are no images in 'dogs'.", "Give a folder with one sub-folder a class.")


def bug(job: JobFolder, stop: Stop) -> End:
    raise ZeroDivisionError("division by\nzero " + "x" * 2000)


def full_disk(job: JobFolder, stop: Stop) -> End:
    raise OSError(errno.ENOSPC, "No space left on device", str(job.path / "model"))


def out_of_memory(job: JobFolder, stop: Stop) -> End:
    raise MemoryError


def leave(job: JobFolder, stop: Stop) -> End:
    sys.exit(7)


def until_stopped(job: JobFolder, stop: Stop) -> End:
    ready(job)
    while not stop():
        time.sleep(0.01)
    print("writing a checkpoint")
    return "STOPPED"


def deaf(job: JobFolder, stop: Stop) -> End:
    ready(job)
    while True:
        time.sleep(0.05)


def fail_once(job: JobFolder, stop: Stop) -> End:
    marker = job.path / "tried"
    if marker.exists():
        print("second run")
        return "COMPLETED"
    marker.touch()
    print("first run")
    raise RuntimeError("the first time it fails")


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}, sys.argv[1]], start_new_session=True)
"""


def family(job: JobFolder, stop: Stop) -> End:
    """Leave three children that ignore SIGTERM: one in its group, one in its own session, an orphan like that."""
    for apart in (False, True):
        command = [sys.executable, "-c", STUBBORN, str(job.path)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=apart)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
    subprocess.run([sys.executable, "-c", PARENT, str(job.path)], check=True)
    ready(job)
    return "COMPLETED"


def family_until_stopped(job: JobFolder, stop: Stop) -> End:
    family(job, stop)
    return until_stopped(job, stop)


def shoot_itself(job: JobFolder, stop: Stop) -> End:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "COMPLETED"


def vanish(job: JobFolder, stop: Stop) -> End:
    os._exit(0)


def fill_disk(job: JobFolder, stop: Stop) -> End:
    with (job.path / "ballast").open("wb") as file:
        while True:
            file.write(bytes(4096))


def ready(job: JobFolder) -> None:
    (job.path / "ready").touch()


JOBS: dict[str, Callable[[JobFolder, Stop], End]] = {
    each.__name__: each
    for each in (
        quick,
        talk,
        refuse,
        bug,
        full_disk,
        out_of_memory,
        leave,
        until_stopped,
        deaf,
        fail_once,
        family,
        family_until_stopped,
        shoot_itself,
        vanish,
        fill_disk,
    )
}


def run_job(job: JobFolder, stop: Stop) -> End:
    """What `houndsight.worker.run_job` is to real jobs."""
    return JOBS[ClassifierSpec.read(job.spec).data](job, stop)


if __name__ == "__main__":
    sys.exit(execute(JobFolder(Path(sys.argv[-1])), run_job, "local").exit_code)
