"""The sampler as the process it is: it samples, follows a tree of processes, and never outlives its training."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from houndsight.errors import SpecError
from houndsight.records import machine
from houndsight.watch.sampler import MACHINE, Sampler


def wait_for(path: Path, lines: int) -> None:
    end = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < end, "the sampler wrote nothing"
        time.sleep(0.02)


def test_it_samples_and_ends_when_it_is_told(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path, 0.1)
    wait_for(tmp_path / MACHINE, 5)
    sampler.stop()
    assert not psutil.pid_exists(sampler.pid)
    seen = machine.read(tmp_path)
    assert seen.cores == os.cpu_count()
    assert len(seen) >= 3
    assert seen.memory > 1e8
    assert (seen.cpu >= 0).all()
    assert (seen.cpu <= 1).all()
    assert (seen.rss > 1e6).all()
    assert seen.own < 5.0
    if not Path("/dev/nvidiactl").exists():
        assert seen.gpus == ()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux counts waiting")
def test_work_of_the_tree_and_of_others_are_told_apart(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path, 0.1)
    try:
        wait_for(tmp_path / MACHINE, 2)
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
        child = subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"])
        child.wait()
    finally:
        sampler.stop()
    seen = machine.read(tmp_path)
    spent = float((seen.tree * seen.seconds).sum())
    assert spent > 0.5  # both, also that of the child, which is gone
    assert float((seen.main * seen.seconds).sum()) == pytest.approx(0.3, abs=0.15)
    assert child.pid in seen.kids
    assert (seen.anonymous < seen.rss).all()


def test_it_ends_with_its_training(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom houndsight.watch.sampler import Sampler\n"
        "print(Sampler(Path(sys.argv[1]), 0.1).pid, flush=True)\ntime.sleep(60)"
    )
    training = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    pid = int(training.stdout.readline())
    wait_for(tmp_path / MACHINE, 3)
    os.kill(training.pid, signal.SIGKILL)
    training.wait()
    training.stdout.close()
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(10)
    assert len(machine.read(tmp_path)) >= 1


def test_a_torn_line_of_a_killed_sampler_does_not_hurt_the_next(tmp_path: Path) -> None:
    (tmp_path / MACHINE).write_text('{"format": 1, "torn')
    sampler = Sampler(tmp_path, 0.1)
    wait_for(tmp_path / MACHINE, 5)
    sampler.stop()
    assert len(machine.read(tmp_path)) >= 2
    lines = (tmp_path / MACHINE).read_text().splitlines()
    assert all(json.loads(line) for line in lines[1:])


@pytest.mark.parametrize("interval", [0.05, 61.0])
def test_intervals_have_bounds(tmp_path: Path, interval: float) -> None:
    with pytest.raises(SpecError, match=r"Choose 0\.1 to 60 seconds"):
        Sampler(tmp_path, interval)
