"""How processes of the local back end live and die, with real signals; and that nothing of a job survives it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from houndsight.backends import base, process
from houndsight.backends.inline import InlineBackend
from houndsight.backends.local import LocalBackend
from houndsight.backends.lock import held
from houndsight.errors import WorkspaceError
from houndsight.folders import JobFolder
from houndsight.spec import Status
from houndsight.workspace import write_json

from .conftest import COMMAND, Bench, eventually, is_ready, processes_of
from .jobs import run_job


def running(bench: Bench, local: LocalBackend, behaviour: str) -> tuple[JobFolder, Status]:
    """A job in the middle of its run, and its status."""
    job = bench.job(behaviour)
    local.submit(job)
    eventually(is_ready(job))
    return job, base.status(job)


def kill(pid: int | None, number: signal.Signals = signal.SIGKILL) -> None:
    assert pid is not None
    os.kill(pid, number)


def test_a_deaf_job_is_killed_when_the_grace_is_over(bench: Bench, local: LocalBackend) -> None:
    job, _ = running(bench, local, "deaf")
    ended = local.stop(job, 0.3)
    assert (ended.state, ended.exit_code) == ("STOPPED", -9)
    assert ended.reason == "it did not stop within 0.3 s and was killed"
    assert processes_of(job) == []


def test_a_second_request_may_shorten_the_grace(bench: Bench, local: LocalBackend) -> None:
    job, _ = running(bench, local, "deaf")
    patient = threading.Thread(target=local.stop, args=(job, 100.0))
    patient.start()
    eventually(job.stop_request.exists)
    assert base.status(job).state == "STOPPING"
    assert local.stop(job, 0.2).state == "STOPPED"
    patient.join(10.0)
    assert not patient.is_alive()


def test_a_killed_job_shows_the_signal(bench: Bench, local: LocalBackend) -> None:
    job, status = running(bench, local, "deaf")
    kill(status.pid)
    ended = local.wait(job, 20.0)
    assert (ended.state, ended.exit_code) == ("FAILED", -9)
    assert ended.reason == "killed by signal 9 (SIGKILL)" == job.failure.read_text()
    assert "killed by signal 9 (SIGKILL)" in job.log.read_text()


def test_a_crash_shows_the_signal(bench: Bench, local: LocalBackend) -> None:
    job = bench.job("shoot_itself")
    local.submit(job)
    assert local.wait(job, 20.0).reason == "killed by signal 11 (SIGSEGV)"


def test_a_job_that_vanishes_has_failed(bench: Bench, local: LocalBackend) -> None:
    job = bench.job("vanish")
    local.submit(job)
    ended = local.wait(job, 20.0)
    assert (ended.state, ended.exit_code) == ("FAILED", 0)
    assert "left no result" in ended.reason


def test_a_job_ends_when_its_monitor_is_killed(bench: Bench, local: LocalBackend) -> None:
    job, status = running(bench, local, "until_stopped")
    kill(status.monitor)
    ended = local.wait(job, 20.0)
    assert (ended.state, ended.reason) == ("FAILED", "the process that watched over it was killed")
    eventually(lambda: processes_of(job) == [])
    local.submit(job)
    assert local.stop(job, 20.0).state == "STOPPED"


def test_the_children_of_a_job_end_when_its_monitor_is_killed(bench: Bench, local: LocalBackend) -> None:
    job, status = running(bench, local, "family_until_stopped")
    kill(status.monitor)
    assert local.wait(job, 20.0).state == "FAILED"
    eventually(lambda: processes_of(job) == [])  # the orphan that left both group and session too


def test_a_deaf_job_without_a_monitor_can_be_stopped(
    bench: Bench, local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, status = running(bench, local, "deaf")
    kill(status.monitor)
    monkeypatch.setattr("houndsight.backends.local.MARGIN_SECONDS", 0.2)
    ended = local.stop(job, 0.1)
    assert (ended.state, ended.reason) == ("FAILED", base.WITHOUT_A_WORD)
    assert processes_of(job) == []


def test_a_job_whose_processes_all_died_has_failed(bench: Bench, local: LocalBackend) -> None:
    job, status = running(bench, local, "deaf")
    kill(status.monitor, signal.SIGSTOP)
    kill(status.pid)
    kill(status.monitor)
    for pid in (status.monitor, status.pid):
        assert pid is not None
        assert process.await_end(pid, 20.0)
    found = base.status(job)
    assert (found.state, found.reason) == ("FAILED", base.WITHOUT_A_WORD)
    assert job.failure.read_text() == found.reason
    assert base.status(job) == found == Status.read(job.status)


def test_a_queued_job_whose_monitor_died_has_failed(bench: Bench) -> None:
    job = bench.job("quick")
    gone = Status(state="QUEUED", pid=2**22 + 1, pid_started=1.0, monitor=2**22 + 1, monitor_started=1.0)
    write_json(job.status, gone)
    assert base.status(job).state == "FAILED"


def test_another_process_of_the_same_number_is_not_the_job(bench: Bench) -> None:
    job = bench.job("quick")
    ours = process.started(os.getpid())
    write_json(job.status, Status(state="RUNNING", pid=os.getpid(), pid_started=ours - 3600.0))
    assert base.status(job).state == "FAILED"
    write_json(job.status, Status(state="RUNNING", pid=os.getpid(), pid_started=ours))
    assert base.status(job).state == "RUNNING"


def test_a_job_in_another_container_is_believed(bench: Bench) -> None:
    """Its process cannot be seen, but it holds the lock."""
    job = bench.job("quick")
    write_json(job.status, Status(state="RUNNING", pid=2**22 + 1, pid_started=1.0))
    with held(job):
        assert base.status(job).state == "RUNNING"
        assert base.wait_for(job, 0.01).state == "RUNNING"
    assert base.status(job).state == "FAILED"


def test_nothing_survives_a_job(bench: Bench, local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _ = running(bench, local, "family")
    began = time.monotonic()
    assert local.wait(job, 30.0).state == "COMPLETED"
    assert processes_of(job) == []
    assert time.monotonic() - began < 15.0
    assert "Ending processes that the job left behind." in job.log.read_text()


def test_nothing_survives_a_stop(bench: Bench, local: LocalBackend) -> None:
    job, _ = running(bench, local, "family_until_stopped")
    assert len(processes_of(job)) == 5  # the monitor, the job, and three children
    assert local.stop(job, 0.5).state == "STOPPED"
    assert processes_of(job) == []


def test_a_stop_right_after_the_start_is_heard(bench: Bench, local: LocalBackend) -> None:
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2):
        job = bench.job("until_stopped")
        local.submit(job)
        threading.Event().wait(delay)
        assert local.stop(job, 20.0).state == "STOPPED"


def test_two_processes_start_a_job_once(bench: Bench) -> None:
    job = bench.job("until_stopped")
    source = (
        "import sys; from pathlib import Path; from houndsight.backends.local import LocalBackend;"
        "from houndsight.folders import JobFolder; sys.stdin.read();"
        "LocalBackend(sys.argv[2:]).submit(JobFolder(Path(sys.argv[1])))"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", source, str(job.path), *COMMAND],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for each in starters:
        assert each.stdin is not None
        each.stdin.close()
        each.stdin = None
    said = [each.communicate()[1] for each in starters]
    assert sorted(each.returncode for each in starters) == [0, 1, 1]
    assert sum("is running already" in text for text in said) == 2
    eventually(is_ready(job))  # and it outlives who started it
    assert LocalBackend().stop(job, 20.0).state == "STOPPED"


def test_a_second_worker_is_refused(bench: Bench, local: LocalBackend) -> None:
    job, status = running(bench, local, "until_stopped")
    second = subprocess.run([*COMMAND, str(job.path)], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "is running already" in second.stderr
    assert base.status(job) == status
    assert local.stop(job, 20.0).state == "STOPPED"


def test_a_command_that_cannot_start_has_failed(bench: Bench) -> None:
    job = bench.job("quick")
    local = LocalBackend(["/nonexistent/python"])
    local.submit(job)
    ended = local.wait(job, 20.0)
    assert (ended.state, ended.exit_code) == ("FAILED", 1)
    assert ended.reason == "could not start /nonexistent/python: No such file or directory"


def test_a_command_that_fails_before_the_job_begins_has_failed(bench: Bench) -> None:
    job = bench.job("quick")
    local = LocalBackend([sys.executable, "-c", "import nowhere"])
    local.submit(job)
    ended = local.wait(job, 20.0)
    assert (ended.state, ended.exit_code) == ("FAILED", 1)
    assert ended.reason == "the process ended with exit code 1 and left no result; see log.txt"
    assert "ModuleNotFoundError" in job.log.read_text()


def inline_elsewhere(job: JobFolder) -> "subprocess.Popen[str]":
    """A process that runs the job inline."""
    source = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from jobs import run_job;"
        "from houndsight.backends.inline import InlineBackend; from houndsight.folders import JobFolder;"
        "InlineBackend(run_job).submit(JobFolder(Path(sys.argv[1]))); print('went on')"
    )
    command = [sys.executable, "-c", source, str(job.path), str(Path(__file__).parent)]
    inline = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    eventually(is_ready(job))
    return inline


def test_an_inline_job_hears_the_keyboard(bench: Bench) -> None:
    job = bench.job("until_stopped", "inline")
    inline = inline_elsewhere(job)
    inline.send_signal(signal.SIGINT)
    assert inline.communicate(timeout=20)[0] == "writing a checkpoint\nwent on\n"
    assert base.status(job).state == "STOPPED"


def test_an_inline_job_is_stopped_from_another_process_but_never_killed(bench: Bench) -> None:
    job = bench.job("deaf", "inline")
    inline = inline_elsewhere(job)
    assert InlineBackend(run_job).stop(job, 0.2).state == "STOPPING"
    assert inline.poll() is None
    inline.kill()
    assert inline.communicate()[0] == ""
    found = base.status(job)
    assert (found.state, found.reason) == ("FAILED", base.WITHOUT_A_WORD)


def test_nothing_survives_a_job_whose_folder_was_deleted(bench: Bench, local: LocalBackend) -> None:
    job, status = running(bench, local, "family_until_stopped")
    shutil.rmtree(job.path)
    kill(status.monitor, signal.SIGTERM)
    eventually(lambda: processes_of(job) == [])


def test_a_lock_is_not_kept_by_forks(bench: Bench) -> None:
    job = bench.job("quick")
    over, tell_over = os.pipe()
    up, tell_up = os.pipe()
    with held(job):
        child = os.fork()
        if child == 0:
            os.close(tell_over)
            os.write(tell_up, b"1")
            os.read(over, 1)
            os._exit(0)
        assert os.read(up, 1)
    with held(job):
        pass
    for each in (over, tell_over, up, tell_up):
        os.close(each)
    os.waitpid(child, 0)
    with held(job), pytest.raises(WorkspaceError, match="is running already"), held(job):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk of its own")
def test_a_full_disk_is_told_of(bench: Bench) -> None:
    job = bench.job("fill_disk", name="full")
    source = (
        'mount -t tmpfs -o size=400k none "$1" && mkdir "$1/full" && cp "$2"/*.json "$1/full" && shift 2'
        ' && "$@"; status=$?; cat "$0/full/status.json"; exit $status'
    )
    small = bench.workspace.path / "small"
    small.mkdir()
    command = ["unshare", "-rm", "sh", "-c", source, str(small), str(small), str(job.path), *COMMAND]
    done = subprocess.run([*command, str(small / "full")], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no disk of its own to fill: {done.stderr.strip()}")
    assert done.returncode == 1, done.stderr
    ended = Status.model_validate_json(done.stdout)
    assert ended.state == "FAILED"
    assert ended.error is not None
    assert ended.error["kind"] == "DiskFullError"


@pytest.mark.slow
def test_fifty_jobs_leave_nothing_behind(bench: Bench, local: LocalBackend) -> None:
    this = psutil.Process()

    def traces() -> tuple[int, int]:
        return this.num_fds(), len(this.children(recursive=True))

    first = bench.job("quick")
    local.submit(first)
    local.wait(first, 30.0)  # takes note of monitors that earlier tests left unawaited, too
    before = traces()
    for _ in range(50):
        job = bench.job("quick")
        local.submit(job)
        assert local.wait(job, 30.0).state == "COMPLETED"
        assert processes_of(job) == []
    assert traces() == before
