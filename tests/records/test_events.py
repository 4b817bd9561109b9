"""What is recorded comes back: after a kill, from several threads, while it is written, from a full disk."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houndsight.errors import DiskFullError, WorkspaceError
from houndsight.records.reader import Records
from houndsight.records.schema import EVENTS, FORMAT_VERSION, Event, Scalar, Span
from houndsight.records.writer import RecordWriter


def values(folder: Path, name: str = "loss", mode: str = "train") -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in Records(folder).scalars(name, mode)]


def test_what_is_recorded_comes_back(tmp_path: Path) -> None:
    before = time.time()
    with RecordWriter(tmp_path / "records") as writer:
        writer.scalar("loss", 0.1, step=0)
        writer.scalar("loss", 0.3, step=0, mode="valid")
        writer.scalar("Verlust, 'ü'\n\"", 1e-300, step=2**40, mode="a/b")
        writer.scalar("loss", -1.0, step=1)
        with writer.span("epoch", step=3):
            pass
        writer.add_span("decode", 12.5, 0.25, 4)
    records = Records(tmp_path / "records")
    first, second, third, fourth = records.scalars()
    assert [first.value, second.value, third.value, fourth.value] == [0.1, -1.0, 0.3, 1e-300]
    assert (third.name, third.mode, third.step) == ("loss", "valid", 0)
    assert (fourth.name, fourth.mode, fourth.step) == ("Verlust, 'ü'\n\"", "a/b", 2**40)
    assert before - 1e-3 <= first.time <= time.time()
    assert records.names() == [("loss", "train"), ("loss", "valid"), (fourth.name, "a/b")]
    assert [each.value for each in records.scalars(mode="valid")] == [0.3]
    assert [each.value for each in records.scalars("loss")] == [0.1, -1.0, 0.3]
    epoch, decode = records.spans()
    assert (epoch.name, epoch.step) == ("epoch", 3)
    assert 0.0 <= epoch.seconds < 1.0
    assert decode == Span("decode", 4, 12.5, 0.25)
    assert records.spans("decode") == [decode]


@given(st.lists(st.floats()), st.text())
def test_every_number_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, many: list[float], name: str
) -> None:
    folder = tmp_path_factory.mktemp("numbers")
    with RecordWriter(folder) as writer:
        for step, value in enumerate(many):
            writer.scalar(name, value, step=step)
    steps, back = Records(folder).curve(name)
    assert steps.tolist() == list(range(len(many)))
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(many, back.tolist(), strict=True))


def test_the_lines_are_json_that_every_reader_takes(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        for step, value in enumerate((math.nan, math.inf, -math.inf, 1.5)):
            writer.scalar("loss", value, step=step)
    header, *lines = (tmp_path / EVENTS).read_text().splitlines()
    assert header.startswith(f'{{"format": {FORMAT_VERSION}, "host": "')
    assert [line.split(', "time"')[0] for line in lines] == [
        '{"scalar": "loss", "mode": "train", "step": 0, "value": "nan"',
        '{"scalar": "loss", "mode": "train", "step": 1, "value": "inf"',
        '{"scalar": "loss", "mode": "train", "step": 2, "value": "-inf"',
        '{"scalar": "loss", "mode": "train", "step": 3, "value": 1.5',
    ]


def test_without_records_there_is_nothing_to_read(tmp_path: Path) -> None:
    records = Records(tmp_path / "nowhere")
    assert records.scalars() == []
    assert records.spans() == []
    assert records.names() == []
    assert len(records.to_pandas()) == 0
    assert [len(column) for column in records.curve("loss")] == [0, 0]


def test_of_a_repeated_step_the_last_value_counts(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        for step in range(10):
            writer.scalar("loss", step, step=step)
    with RecordWriter(tmp_path) as writer:
        for step in range(6, 12):
            writer.scalar("loss", 100 + step, step=step)
    assert values(tmp_path) == [(step, float(step)) for step in range(6)] + [
        (step, 100.0 + step) for step in range(6, 12)
    ]


@given(cut=st.integers(min_value=0), rubbish=st.binary(max_size=40).filter(lambda bytes_: b"\n" not in bytes_))
def test_a_file_cut_anywhere_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int, rubbish: bytes
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with RecordWriter(folder) as writer:
        for step in range(20):
            writer.scalar("loss", step, step=step)
    whole = (folder / EVENTS).read_bytes()
    left = whole[: cut % (len(whole) + 1)] + rubbish
    (folder / EVENTS).write_bytes(left)
    kept = max(0, left.count(b"\n") - 1)
    assert len(values(folder)) == kept
    with RecordWriter(folder) as writer:
        writer.scalar("loss", -1.0, step=1000)
    assert values(folder) == [(step, float(step)) for step in range(kept)] + [(1000, -1.0)]


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.scalar("loss", 1.0, step=0)
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(b"\0\0\0\n[1]\n5\n{}\n" + b"[" * 10_000 + b"\n")
        file.write(b'{"scalar": "loss", "mode": "train", "step": "one", "value": 1, "time": 1}\n')
        file.write(b'{"scalar": "loss", "mode": "train", "step": 1e300, "value": 1, "time": 1}\n')
        file.write(b'{"scalar": "loss", "mode": "train", "step": 1' + b"0" * 400 + b', "value": 1, "time": 1}\n')
        file.write(b'{"scalar": ["loss"], "mode": "train", "step": 1, "value": 1, "time": 1}\n')
        file.write(b'{"scalar": "loss", "mode": "train", "step": 1, "value": 2.5, "time": 1}\n')
    assert values(tmp_path) == [(0, 1.0), (1, 2.5)]
    assert "9 damaged lines" in caplog.text


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_text(f'{{"format": {FORMAT_VERSION + 1}, "host": "ada", "pid": 1, "time": 0}}\n')
    with pytest.raises(WorkspaceError, match="newer Houndsight") as caught:
        Records(tmp_path).scalars()
    assert caught.value.repair == "pip install --upgrade houndsight"


def test_it_is_written_within_a_second_without_another_call(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.scalar("loss", 1.0, step=0)
        until = time.monotonic() + 5.0
        while not values(tmp_path):
            assert time.monotonic() < until
            threading.Event().wait(0.05)


def test_several_threads_write_whole_lines(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:

        def write(which: int) -> None:
            for step in range(2000):
                writer.scalar(f"loss{which}", step, step=step)

        threads = [threading.Thread(target=write, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for which in range(4):
        assert values(tmp_path, f"loss{which}") == [(step, float(step)) for step in range(2000)]


def test_a_fork_writes_nothing_twice(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.scalar("loss", 1.0, step=0)
    child = os.fork()
    if child == 0:
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.close()
    assert len(list(Records(tmp_path))) == 1


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.scalar("loss", 1.0, step=0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the device that is always full")
def test_a_full_disk_is_told_to_whoever_records(tmp_path: Path) -> None:
    (tmp_path / EVENTS).symlink_to("/dev/full")
    writer = RecordWriter(tmp_path)
    writer.scalar("loss", 1.0, step=0)
    with pytest.raises(DiskFullError, match="No room left"):
        writer.flush()
    with pytest.raises(DiskFullError):
        writer.scalar("loss", 1.0, step=1)
    with pytest.raises(DiskFullError):
        writer.close()


def test_a_killed_writer_loses_a_second_at_most(tmp_path: Path) -> None:
    source = (
        "import sys; from pathlib import Path; from houndsight.records.writer import RecordWriter\n"
        "writer = RecordWriter(Path(sys.argv[1]))\n"
        "for step in range(10**7): writer.scalar('loss', step, step=step)"
    )
    writing = subprocess.Popen([sys.executable, "-c", source, str(tmp_path)])
    until = time.monotonic() + 20.0
    while sum(1 for _ in Records(tmp_path)) < 5000:
        assert time.monotonic() < until
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    kept = values(tmp_path)
    assert kept == [(step, float(step)) for step in range(len(kept))]
    with RecordWriter(tmp_path) as writer:
        writer.scalar("loss", -1.0, step=len(kept))
    assert values(tmp_path) == [*kept, (len(kept), -1.0)]


def test_following_sees_every_event_once_and_ends(tmp_path: Path) -> None:
    stop = threading.Event()
    seen: list[Event] = []
    follower = threading.Thread(target=lambda: seen.extend(Records(tmp_path).follow(stop)))
    follower.start()
    with RecordWriter(tmp_path) as writer:
        for step in range(50):
            writer.scalar("loss", step, step=step)
            if step % 10 == 0:
                writer.flush()
                threading.Event().wait(0.03)
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(b'{"scalar": "loss", "mode')
    threading.Event().wait(0.3)
    with RecordWriter(tmp_path) as writer:
        writer.add_span("epoch", 1.0, 2.0, 50)
    stop.set()
    follower.join(10.0)
    assert [each.step for each in seen] == list(range(51))
    assert all(a.time <= b.time for a, b in pairwise(each for each in seen if isinstance(each, Scalar)))


def test_a_table_holds_the_same(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        for step in (0, 1, 1, 2):
            writer.scalar("loss", step / 2, step=step)
        writer.scalar("accuracy", math.nan, step=2, mode="valid")
    table = Records(tmp_path).to_pandas()
    assert list(table.columns) == ["name", "mode", "step", "value", "time"]
    assert table["name"].tolist() == ["loss"] * 3 + ["accuracy"]
    assert table["mode"].tolist() == ["train"] * 3 + ["valid"]
    assert table["step"].tolist() == [0, 1, 2, 2]
    assert table["value"].tolist()[:3] == [0.0, 0.5, 1.0]
    assert str(table["time"].dt.tz) == "UTC"


@pytest.mark.slow
def test_a_million_events_need_little_memory(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        for step in range(1_000_000):
            writer.scalar("loss", 1.0 / (step + 1), step=step)
    source = (
        "import resource, sys; from pathlib import Path; from houndsight.records.reader import Records\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); steps, _ = Records(Path(sys.argv[1])).curve('loss')\n"
        "print(len(steps), (peak() - before) // (1024 * 1024 if sys.platform == 'darwin' else 1024))"
    )
    done = subprocess.run([sys.executable, "-c", source, str(tmp_path)], capture_output=True, text=True, check=True)
    count, megabytes = map(int, done.stdout.split())
    assert count == 1_000_000
    assert megabytes < 120
