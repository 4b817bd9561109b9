"""The life of a warm process: asked, killed, idle, stuck, forgotten; and that jobs do not depend on it."""

import gc
import os
import re
import signal
import socket
import stat
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from houndsight.backends import base, pool
from houndsight.backends.local import LocalBackend
from houndsight.folders import JobFolder

from .conftest import SCRIPT, Yard, answers, eventually, log, of

WAITS = """
import os, time
from pathlib import Path
job = Path(os.environ["SAGEMAKER_BASE_DIR"])
(job / "ready").touch()
while not (job / "go").exists():
    time.sleep(0.01)
print("went on")
"""
WARM = "import sys; print('houndsight.warm' in sys.modules)"


def was_warm(job: JobFolder) -> bool:
    return log(job).splitlines()[-1] == "True"


def test_a_killed_one_takes_no_job_with_it(yard: Yard) -> None:
    process = yard.warm()
    job = yard.job(WAITS)
    yard.backend.submit(job)
    eventually((job.path / "ready").exists)
    process.kill()
    process.wait(10.0)
    assert base.status(job).state == "RUNNING"
    after = yard.job(WARM)
    assert yard.run(after).state == "COMPLETED"
    assert not was_warm(after)
    (job.path / "go").touch()
    assert yard.backend.wait(job, 30.0).state == "COMPLETED"
    assert "went on" in log(job)
    eventually(lambda: [each.pid for each in yard.processes()] not in ([], [process.pid]))


def test_the_next_job_after_a_cold_one_is_warm(yard: Yard) -> None:
    eventually(lambda: any(answers(each) for each in yard.sockets()))
    job = yard.job(WARM)
    assert yard.run(job).state == "COMPLETED"
    assert was_warm(job)


def test_what_one_left_that_was_killed_is_cleared_away(yard: Yard) -> None:
    for ending in ("lock", "sock", "log"):
        (yard.folder / f"script-{'0' * 16}.{ending}").touch()
    yard.warm()
    assert list(yard.folder.glob("script-00*")) == []


def test_jobs_leave_nothing(yard: Yard) -> None:
    leave_nothing(yard, 6)


@pytest.mark.slow
def test_fifty_jobs_leave_nothing(yard: Yard) -> None:
    leave_nothing(yard, 50)


def opened() -> Counter[str]:
    """What the files are that this process holds open, and how many of each sort."""
    gc.collect()
    found: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own is gone
            found[re.sub(r"\d+", "", str(each.readlink()))] += 1
    return found


def leave_nothing(yard: Yard, number: int) -> None:
    process = yard.warm()
    assert yard.run(yard.job(WARM)).state == "COMPLETED"
    ours = opened()
    files, before = process.num_fds(), {each.pid for each in of(yard.workspace.path)}
    jobs = [yard.job(f"import sys; sys.exit({each % 2})") for each in range(number)]
    states = [yard.run(job).state for job in jobs]
    assert states == ["COMPLETED", "FAILED"] * (number // 2)
    eventually(lambda: process.children() == [])  # zombies are children too
    eventually(lambda: process.num_fds() <= files)  # now and then it lists the package's folders
    assert process.num_threads() == 1
    assert {each.pid for each in of(yard.workspace.path)} <= before
    assert opened() <= ours


def test_only_its_user_may_ask(yard: Yard) -> None:
    process = yard.warm()
    [place] = yard.sockets()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as line, pool.at(place) as address:
        line.connect(address)
        assert pool.peer(line) == (process.pid, os.getuid())


def test_rubbish_on_the_line_does_no_harm(yard: Yard) -> None:
    process = yard.warm()
    [place] = yard.sockets()
    for rubbish in (b"", b"x", b"\xff" * 8, (5).to_bytes(8, "little") + b"{}", bytes(8) + b"rest"):
        with socket.socket(socket.AF_UNIX) as line, pool.at(place) as address:
            line.connect(address)
            line.sendall(rubbish)
    eventually(lambda: process.children() == [])
    job = yard.job(WARM)
    assert yard.run(job).state == "COMPLETED"
    assert was_warm(job)


def test_one_that_does_not_answer_is_not_waited_for(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    process = yard.warm()
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.2)
    process.suspend()
    job = yard.job(WARM)
    try:
        assert yard.run(job).state == "COMPLETED"
    finally:
        process.resume()
    assert not was_warm(job)
    eventually(lambda: process.children() == [])


def test_a_killed_worker_shows_the_signal(yard: Yard) -> None:
    yard.warm()
    job = yard.job(WAITS)
    yard.backend.submit(job)
    eventually((job.path / "ready").exists)
    os.kill(base.status(job).pid or 0, signal.SIGKILL)
    ended = yard.backend.wait(job, 20.0)
    assert (ended.state, ended.reason) == ("FAILED", "killed by signal 9 (SIGKILL)")
    assert of(job.path) == []


def test_a_job_ends_when_its_monitor_is_killed(yard: Yard) -> None:
    yard.warm()
    job = yard.job(WAITS)
    yard.backend.submit(job)
    eventually((job.path / "ready").exists)
    script = [each for each in psutil.Process(base.status(job).pid).children() if "script.py" in each.cmdline()]
    assert script
    os.kill(base.status(job).monitor or 0, signal.SIGKILL)
    ended = yard.backend.wait(job, 20.0)
    assert (ended.state, ended.reason) == ("FAILED", "the process that watched over it was killed")
    assert psutil.wait_procs(script, 20.0)[1] == []


def test_it_ends_when_nobody_asks(yard: Yard) -> None:
    seed = yard.seed()
    other = pool.Seed(seed.kind, seed.python, {**seed.environment, "OTHER": "1"})
    started = pool.start(yard.workspace.path, other, None, idle=0.2)
    assert started is not None
    assert pool.start(yard.workspace.path, other, None) is None  # one a kind
    assert started.wait(30.0) == 0
    assert not (yard.folder / f"{other.name}.sock").exists()


def test_it_ends_when_its_workspace_is_gone(yard: Yard) -> None:
    process = yard.warm()
    for place in yard.sockets():
        place.unlink()
    process.wait(20.0)


def test_a_deep_workspace(yard: Yard, tmp_path: Path) -> None:
    """The address of a socket has 108 bytes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    seed = yard.seed()
    started = pool.start(deep, seed, None, idle=2.0)
    assert started is not None
    eventually(lambda: list(pool.folder_of(deep).glob("*.sock")))
    with (tmp_path / "log").open("w") as log:
        line = pool.fork(deep, seed, pool.Request(["a"], str(tmp_path), {}), (log.fileno(), log.fileno()))
        assert line is not None
        line[1].close()  # without orders it ends
    started.terminate()
    assert started.wait(20.0) == 0


def test_the_flag_and_the_system_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pool.usable({pool.COLD: "1"})
    assert pool.usable({pool.COLD: "0"}) == (sys.platform == "linux")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not pool.usable({pool.COLD: "0"})


def test_what_differs_at_the_start_has_another_key(yard: Yard) -> None:
    seed = yard.seed()

    def name(**more: str) -> str:
        return pool.Seed(seed.kind, seed.python, {**seed.environment, **more}).name

    assert name() == name(TMPDIR="/elsewhere", SM_HP_LR="0.1", TERM="dumb")
    assert len({name(), name(OMP_NUM_THREADS="7"), name(MALLOC_ARENA_MAX="1"), name(PYTHONHASHSEED="3")}) == 4
    before = os.umask(0o077)
    try:
        private = name()
    finally:
        os.umask(before)
    assert private != name() or before == 0o077


def test_a_cold_back_end_starts_nothing(yard: Yard) -> None:
    assert not LocalBackend(cold=True).warm_up(yard.workspace.path / "other", SCRIPT)
    assert not (yard.workspace.path / "other").exists()
