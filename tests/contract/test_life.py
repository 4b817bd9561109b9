"""A script's life: codes, streams, stops, floods, and nothing left of it."""

import os
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest

from houndsight.contract import layout
from houndsight.verbs.run import script_spec
from houndsight.workspace import Workspace

from .conftest import RunIt, again
from .test_scripts import of_job


def test_fifty_jobs_leave_nothing(run_it: RunIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    threads = threading.active_count()
    code = "import tempfile, sys; tempfile.mkdtemp(); print(1); sys.exit(int(sys.argv[2]) % 2)"
    ran = [run_it(code=code, hyperparameters={"n": number}, metrics={"n": r"(\d+)"}) for number in range(50)]
    assert [each.state for each in ran] == ["COMPLETED", "FAILED"] * 25
    assert not [process for each in ran for process in of_job(each.job.path)][:1]
    assert threading.active_count() == threads
    if files:
        assert len(os.listdir("/proc/self/fd")) == files
    assert not list(temporary.iterdir())
    assert not [each for each in ran if layout.scratch_folder(each.job).exists()]


def test_exit_codes(run_it: RunIt) -> None:
    ran = run_it(code="import sys; print('Epoch 1'); sys.exit('no data here')")
    assert 'ExitCode 1\nErrorMessage "Epoch 1\n no data here"' in ran.job.failure.read_text()
    ran = run_it(code="import os; os._exit(7)")
    assert ran.outcome.exit_code == 7
    assert 'ExitCode 7\nErrorMessage ""' in ran.job.failure.read_text()
    ran = run_it(code="import argparse; argparse.ArgumentParser().parse_args()", hyperparameters={"typo": 1})
    assert ran.outcome.exit_code == 2
    assert "unrecognized arguments: --typo 1" in ran.job.failure.read_text()
    assert ran.error is not None
    assert "--hp" in ran.error.repair


def test_killed_by_the_kernel(run_it: RunIt) -> None:
    ran = run_it(code="import os; print('Epoch 3'); os.kill(os.getpid(), 9)")
    text = ran.job.failure.read_text()
    assert "ExitCode 137\n" in text
    assert 'ExtraInfo "OutOfMemory: Process killed by SIGKILL (signal 9)"\nCommand "' in text
    ran = run_it(code="import ctypes; ctypes.string_at(0)")
    assert (
        'ExitCode -11\nErrorMessage ""\nExtraInfo "Process killed by SIGSEGV (signal 11)"'
        in ran.job.failure.read_text()
    )


def test_a_failure_of_the_scripts_own_words(run_it: RunIt) -> None:
    code = """
import os, sys
with open(os.path.join(os.environ["SM_OUTPUT_DIR"], "failure"), "w") as file:
    file.write("the disc of the robot is full")
sys.exit(1)
"""
    ran = run_it(code=code)
    assert ran.error is not None
    assert ran.error.message == ran.job.failure.read_text() == "the disc of the robot is full"


def test_a_failure_in_one_line_for_people(run_it: RunIt) -> None:
    for code, said in (
        ("import sys; print('Epoch 1'); sys.exit('no data here')", "no data here"),
        ("import os; os._exit(7)", "The script ended with exit code 7 and said nothing."),
        ("import os; os.kill(os.getpid(), 15)", "The script was killed by SIGTERM (signal 15)."),
        ("try:\n  {}['a']\nexcept KeyError:\n  raise OSError('b\\nc')", "OSError: b"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("raise ValueError('x' * 2000)", "ValueError: " + "x" * 135 + " ... " + "x" * 148),
        ("open('../output/failure', 'w').write('mine'); 1 / 0", "mine"),
        ("open('../output/failure', 'w').write(' '); 1 / 0", "ZeroDivisionError: division by zero"),
    ):
        assert run_it(code=code).outcome.error == said


def test_what_it_took_and_left_is_written_down(run_it: RunIt) -> None:
    code = """
import os, time
held = b"x" * 200_000_000
end = time.process_time() + 0.3
while time.process_time() < end: pass
open(os.path.join(os.environ["SM_MODEL_DIR"], "m.pth"), "wb").write(b"0123")
"""
    outcome = run_it(code=code).outcome
    assert outcome.machine is not None
    assert 0.3 <= (outcome.machine.cpu_seconds or 0) < 10
    assert outcome.machine.peak_memory is None or outcome.machine.peak_memory > 200_000_000
    assert "python" in outcome.machine.versions
    assert outcome.packed["model.tar.gz"].files[0].model_dump() == {"path": "m.pth", "bytes": 4}
    assert "output.tar.gz" not in outcome.packed


def test_success_is_told(run_it: RunIt) -> None:
    ran = run_it(code="")
    assert (ran.job.output / "success").is_file()
    assert not ran.job.failure.exists()
    assert not ran.job.model_archive.exists()


def test_longest_time(run_it: RunIt) -> None:
    code = """
import os, signal, sys, time
def end(*_):
    open(os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"), "w").close()
    print("saved"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("on and on"); time.sleep(60)
"""
    began = time.monotonic()
    ran = run_it(code=code, max_seconds=2.0)
    assert 2 <= time.monotonic() - began < 20
    assert ran.state == "STOPPED"
    assert ran.outcome.stopped == "stopped at its time limit of 2 s (--max-minutes)"
    assert "saved" in ran.log
    assert ran.job.model_archive.is_file()


def test_stopped_before_it_began(run_it: RunIt) -> None:
    ran = run_it(code="print('never')", stop=lambda: True)
    assert ran.state == "STOPPED"
    assert not ran.job.log.exists()


def test_a_daemon_does_not_hold_the_job(run_it: RunIt) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print("main ends")
"""
    began = time.monotonic()
    ran = run_it(code=code)
    assert ran.state == "COMPLETED"
    assert time.monotonic() - began < 20
    assert ran.outcome.killed == 1
    assert not of_job(ran.job.path)


def test_a_child_that_prints_for_ever(run_it: RunIt) -> None:
    code = """
import os, time
if os.fork() == 0:
    while True:
        print("still here")
time.sleep(0.2)
print("main ends")
"""
    began = time.monotonic()
    ran = run_it(code=code)
    assert ran.state == "COMPLETED"
    assert time.monotonic() - began < 20
    assert not of_job(ran.job.path)


def test_a_script_that_closes_its_output(run_it: RunIt) -> None:
    code = "import os, sys, time; os.close(1); os.close(2); time.sleep(0.5); os._exit(4)"
    assert run_it(code=code).outcome.exit_code == 4


def test_a_flood(run_it: RunIt) -> None:
    code = """
import sys
sys.stdout.buffer.write(b"\\xff\\xfe" + b"x" * 3_000_000 + b" loss=7\\n")
sys.stdout.buffer.write("ä".encode() * 50_000 + b"\\n")
sys.stdout.flush()
for _ in range(20000):
    print("loss=0.5")
print("no newline at the end", end="")
"""
    ran = run_it(code=code, metrics={"loss": r"loss=([0-9.]+)"})
    assert ran.state == "COMPLETED"
    assert len(ran.values("loss")) == 20_000  # what stands after 4,096 characters is not looked at
    assert ran.log.endswith("no newline at the end\n")
    lines = ran.log.split("\n")[4:6]
    assert lines[0].startswith("\ufffd\ufffdxx")
    assert lines[1] == "ä" * 50_000


def test_what_is_packed(run_it: RunIt, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("outside")
    code = f"""
import os
os.chdir(os.environ["SM_MODEL_DIR"])
os.makedirs("code"); open("code/inference.py", "w").write("x")
open("b.pth", "w").write("b"); os.chmod("b.pth", 0o600)
os.symlink({str(tmp_path / "outside.txt")!r}, "linked.txt"); os.symlink("/", "all"); os.mkfifo("pipe")
"""
    first, second = run_it(code=code), run_it(code=code)
    with tarfile.open(first.job.model_archive) as tar:
        members = {each.name: each for each in tar.getmembers()}
        assert sorted(members) == ["b.pth", "code/inference.py", "linked.txt"]
        assert all(each.isfile() for each in members.values())
        assert members["b.pth"].mode == 0o644
    assert first.job.model_archive.read_bytes() == second.job.model_archive.read_bytes()


def test_a_script_that_cannot_be_started(run_it: RunIt) -> None:
    ran = run_it("tool", code="#!/no/such/program\n")
    assert ran.error is not None
    assert "could not be started" in ran.error.message
    assert not layout.scratch_folder(ran.job).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_caller_leaves_nothing(run_it: RunIt, error: type[BaseException], tmp_path: Path) -> None:
    looks: list[None] = []

    def stop() -> bool:
        looks.append(None)
        if len(looks) > 3:
            raise error
        return False

    with pytest.raises(error):
        run_it(code="import time; time.sleep(600)", stop=stop, name="broken")
    folder = next((tmp_path / "runs" / "jobs").glob("broken"))
    assert not of_job(folder)
    assert not (folder / "tmp").exists()


def test_scripts_that_are_none(run_it: RunIt, tmp_path: Path) -> None:
    ran = run_it("my script.py", code="print('with a blank')")
    assert "with a blank" in ran.log
    assert run_it("empty.py", code="").state == "COMPLETED"
    (tmp_path / "source" / "latin.py").write_bytes(b"# caf\xe9\nprint(1)")
    (tmp_path / "source" / "rubbish.py").write_bytes(os.urandom(3000).replace(b"\0", b"") + b"\0")
    for name in ("latin.py", "rubbish.py"):
        spec = script_spec(tmp_path / "source" / name)
        ran = again(Workspace.find().create(spec))
        assert ran.state == "FAILED"
        assert "SyntaxError" in ran.job.failure.read_text()


def test_a_script_that_wrecks_its_job(run_it: RunIt) -> None:
    code = """
import os, shutil, sys
job = os.environ["SAGEMAKER_BASE_DIR"]
for name in ("output", "model", "input"):
    shutil.rmtree(os.path.join(job, name))
sys.exit(1)
"""
    ran = run_it(code=code)
    assert ran.state == "FAILED"
    assert ran.job.failure.is_file()


def test_channels_are_not_harmed_by_a_second_start(run_it: RunIt, digits: Path) -> None:
    ran = run_it(code="print(1)", channels={"training": digits})
    again(ran.job)
    assert len(list((digits / "train" / "0").iterdir())) == 20
