"""The stores of tensors and arrays: exact, small, readable while written, and whole to the last flush after a kill."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from houndsight.errors import WorkspaceError
from houndsight.records.arrays import ArrayWriter, cells, confusion, read_arrays
from houndsight.records.facts import add_facts, read_facts
from houndsight.records.tensors import STATISTICS, TensorRecords, TensorStep, TensorWriter, file_of

NAMES = tuple(f"{kind}/layer{number}" for kind in ("weight", "gradient") for number in range(62))


def table(rows: int, statistics: int = 6, seed: int = 0) -> np.ndarray:
    values = np.full((rows, len(STATISTICS)), np.nan, np.float32)
    values[:, :statistics] = np.random.default_rng(seed).normal(size=(rows, statistics))
    return values


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path)
    first, second = table(124, seed=1), table(124, 10, seed=2)
    writer.add(0, "train", NAMES, first)
    writer.add(7, "train", NAMES, second)
    writer.add(3, "valid", ["outputs"], table(1))
    writer.close()
    records = TensorRecords(tmp_path)
    for step, values in ((0, first), (7, second)):
        found = records.read(step)
        assert found is not None
        assert found.names == NAMES
        np.testing.assert_array_equal(found.values, values)
    steps, values = records.curve("gradient/layer5", "p50")
    assert (steps.tolist(), values.tolist()) == ([7], [second[67, STATISTICS.index("p50")]])
    assert records.curve("gradient/layer5", "mean")[0].tolist() == [0, 7]
    assert records.names("^gradient/layer1$") == ["gradient/layer1"]
    assert records.names(mode="valid") == ["outputs"]
    assert records.modes() == ["train", "valid"]
    assert set(records.at(0)["weight/layer0"]) == set(STATISTICS[:6])
    assert records.read(1) is None
    frame = records.to_pandas("gradient")
    assert len(frame) == 2 * 62
    assert frame["mean"].notna().all()


def test_a_value_that_is_nan_in_between_is_kept_apart_from_one_not_taken(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path)
    values = table(2)
    writer.add(0, "train", ["a", "b"], values)
    values[1, 0] = np.nan
    writer.add(1, "train", ["a", "b"], values)
    writer.close()
    steps, means = TensorRecords(tmp_path).curve("b", "mean")
    assert steps.tolist() == [0, 1]
    assert np.isnan(means[1])
    assert file_of(tmp_path).read_bytes().count(b'"names"') == 1


def test_a_step_takes_under_five_kibibytes(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path)
    writer.add(0, "train", NAMES, table(124))
    writer.flush()
    before = file_of(tmp_path).stat().st_size
    for step in range(1, 11):
        writer.add(step, "train", NAMES, table(124))
    writer.close()
    assert (file_of(tmp_path).stat().st_size - before) / 10 < 3.1 * 1024


def test_the_last_written_of_a_repeated_step_counts(tmp_path: Path) -> None:
    for seed in (1, 2):
        writer = TensorWriter(tmp_path)
        for step in range(3 * seed - 3, 5):
            writer.add(step, "train", NAMES, table(124, seed=seed))
        writer.close()
    records = TensorRecords(tmp_path)
    assert records.steps().tolist() == [0, 1, 2, 3, 4]
    values = records.curve(NAMES[0], "mean")[1]
    assert values[:3].tolist() == [table(124, seed=1)[0, 0]] * 3
    assert values[3:].tolist() == [table(124, seed=2)[0, 0]] * 2


@pytest.mark.parametrize("cut", [1, 9, 100, 3000])
def test_a_torn_end_is_left_out_and_cut_off(tmp_path: Path, cut: int) -> None:
    writer = TensorWriter(tmp_path)
    for step in range(3):
        writer.add(step, "train", NAMES, table(124))
    writer.close()
    path = file_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert TensorRecords(tmp_path).steps().tolist() == [0, 1]
    writer = TensorWriter(tmp_path)
    writer.add(9, "train", NAMES, table(124))
    writer.close()
    assert TensorRecords(tmp_path).steps().tolist() == [0, 1, 9]


def test_damage_in_the_middle_ends_the_reading_there(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path)
    for step in range(3):
        writer.add(step, "train", NAMES, table(124))
    writer.close()
    path = file_of(tmp_path)
    content = bytearray(path.read_bytes())
    content[-4000] ^= 1
    path.write_bytes(bytes(content))
    assert TensorRecords(tmp_path).steps().tolist() == [0]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file_of(tmp_path).write_bytes(b"something else entirely")
    with pytest.raises(WorkspaceError, match="no file of the kind"):
        TensorRecords(tmp_path).steps()


def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    stop, got = threading.Event(), list[TensorStep]()
    writer = TensorWriter(tmp_path)
    reader = threading.Thread(target=lambda: got.extend(TensorRecords(tmp_path).follow(stop)))
    reader.start()
    records = TensorRecords(tmp_path)
    for step in range(4):
        writer.add(step, "train", NAMES if step < 2 else NAMES[:3], table(124 if step < 2 else 3, seed=step))
        writer.flush()
        assert records.steps().tolist() == list(range(step + 1))
    assert (found := records.wait_for(2)) is not None
    assert found.step == 2
    stop.set()
    reader.join()
    writer.close()
    assert [each.step for each in got] == [0, 1, 2, 3]
    np.testing.assert_array_equal(got[3].values, table(3, seed=3))
    assert records.wait_for(9, stop=stop) is None


KILLED = """
import sys, numpy as np
from pathlib import Path
from houndsight.records.tensors import STATISTICS, TensorWriter
writer = TensorWriter(Path(sys.argv[1]))
values = np.zeros((3, len(STATISTICS)), np.float32)
for step in range(10**9):
    writer.add(step, "train", ("a", "b", "c"), values + step)
    writer.flush()
    print(step, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_flushed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(50)]
        os.kill(process.pid, signal.SIGKILL)
    steps, values = TensorRecords(tmp_path).curve("b", "mean")
    assert steps.tolist()[: len(said)] == said
    np.testing.assert_array_equal(steps, values)


def test_workers_have_files_of_their_own(tmp_path: Path) -> None:
    for worker in (0, 1):
        writer = TensorWriter(tmp_path, worker)
        writer.add(worker, "train", ["a"], table(1))
        writer.close()
    assert TensorRecords(tmp_path).steps().tolist() == [0]
    assert TensorRecords(tmp_path, worker=1).steps().tolist() == [1]


def test_arrays_by_name_and_mode(tmp_path: Path) -> None:
    labels, guesses = np.array([0, 1, 1, 2]), np.array([0, 0, 0, 2])
    writer = ArrayWriter(tmp_path)
    writer.add("confusion", 5, "valid", cells(labels, guesses))
    writer.add("samples", 5, "train", np.ones((2, 3), np.float32))
    writer.add("samples", 5, "train", np.zeros((2, 3), np.float32))
    writer.close()
    ((step, found),) = read_arrays(tmp_path, "confusion", "valid")
    assert step == 5
    assert confusion(found, 3).tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 1]]
    assert read_arrays(tmp_path, "samples")[0][1].tolist() == [[0.0] * 3] * 2
    assert read_arrays(tmp_path, "samples", "valid") == []


def test_facts_are_added_to(tmp_path: Path) -> None:
    assert read_facts(tmp_path) == {}
    add_facts(tmp_path, lr=0.1, batch_size=4)
    assert add_facts(tmp_path, lr=0.2) == read_facts(tmp_path) == {"lr": 0.2, "batch_size": 4}
