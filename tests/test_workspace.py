"""The workspace: names, folders that appear whole or not at all, and writing that is never half done."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from houndsight.errors import DiskFullError, WorkspaceError
from houndsight.folders import JobFolder
from houndsight.spec import ClassifierSpec, Status
from houndsight.workspace import NAME, Workspace, atomic_write, friendly_disk_errors, new_name, write_json

SPEC = ClassifierSpec(data="dogs")


def test_where_a_workspace_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOUNDSIGHT_HOME", raising=False)
    assert Workspace.find().path == tmp_path / "runs"
    monkeypatch.setenv("HOUNDSIGHT_HOME", "elsewhere")
    assert Workspace.find().path == tmp_path / "elsewhere"
    assert Workspace.find("given").path == tmp_path / "given"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace.find("~/mine").path == tmp_path / "mine"
    assert list(tmp_path.iterdir()) == []


def test_a_new_job_is_there_whole(workspace: Workspace) -> None:
    job = workspace.create(SPEC, "first")
    assert job.path == workspace.path / "jobs" / "first"
    assert {each.name for each in job.path.iterdir()} == {"spec.json", "status.json"}
    assert ClassifierSpec.read(job.spec) == SPEC
    status = Status.read(job.status)
    assert (status.state, status.backend, status.pid) == ("QUEUED", "local", None)
    assert status.created > 0
    assert workspace.job("first") == job


def test_names_come_oldest_first(workspace: Workspace) -> None:
    assert workspace.names() == []
    for age, name in enumerate(("b", "c", "a")):
        os.utime(workspace.create(SPEC, name).spec, (1000.0 + age, 1000.0 + age))
    (workspace.jobs / "no-job").mkdir()
    (workspace.jobs / "a-file").touch()
    assert workspace.names() == ["b", "c", "a"]


def test_a_name_is_taken_once(workspace: Workspace) -> None:
    workspace.create(SPEC, "first")
    with pytest.raises(WorkspaceError, match="'first' exists already"):
        workspace.create(SPEC, "first")
    assert [each.name for each in workspace.jobs.iterdir()] == ["first"]


def test_of_two_at_once_one_gets_the_name(workspace: Workspace) -> None:
    done: list[str] = []
    barrier = threading.Barrier(8)

    def create() -> None:
        barrier.wait()
        try:
            workspace.create(SPEC, "first")
        except WorkspaceError:
            done.append("refused")
        else:
            done.append("made")

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["made"] + ["refused"] * 7
    assert [each.name for each in workspace.jobs.iterdir()] == ["first"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "a-", "a b", "ü", "a\n", "a" * 64, ".hidden"])
def test_a_name_that_cannot_be_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(WorkspaceError):
        workspace.job(name)
    if name:  # none at all means: choose one
        with pytest.raises(WorkspaceError, match="cannot be the name"):
            workspace.create(SPEC, name)
    assert not workspace.path.exists()


def test_a_name_that_is_not_there_gets_a_hint(workspace: Workspace) -> None:
    workspace.create(SPEC, "keen-beagle-4f")
    with pytest.raises(WorkspaceError) as caught:
        workspace.job("keen-beagel-4f")
    assert caught.value.repair == "Did you mean 'keen-beagle-4f'?"


def test_made_up_names_are_names_and_new() -> None:
    taken: list[str] = []
    for _ in range(200):
        name = new_name(taken)
        assert NAME.fullmatch(name)
        assert name not in taken
        taken.append(name)


def test_every_file_of_a_job_lies_in_its_folder(tmp_path: Path) -> None:
    job = JobFolder(tmp_path / "keen-beagle")
    assert job.name == "keen-beagle"
    files = [getattr(job, name) for name, member in vars(JobFolder).items() if isinstance(member, property)]
    paths = [each for each in files if isinstance(each, Path)]
    assert len(set(paths)) == len(paths) == len(files) - 1
    assert all(each.is_relative_to(job.path) for each in paths)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.json", "w") as file:
        file.write("ü")
        file.flush()
        assert not (tmp_path / "a.json").exists()
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "ü"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_writing_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})

    def half() -> None:
        with atomic_write(tmp_path / "a.json") as file:
            file.write(b"{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"n": 0, "rest": []})

    def write() -> None:
        for n in range(100):
            write_json(path, {"n": n, "rest": ["x"] * n * 50})

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():
        document = json.loads(path.read_bytes())
        assert len(document["rest"]) == document["n"] * 50
        seen.add(document["n"])
    writer.join()
    assert len(seen) > 1


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    for code in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(DiskFullError, match="No room left on the disk"), friendly_disk_errors(tmp_path):
            raise OSError(code, "full")
    for code in (errno.EACCES, errno.EROFS, errno.EPERM):
        with pytest.raises(WorkspaceError, match="Cannot write to"), friendly_disk_errors(tmp_path):
            raise OSError(code, "no")
    with pytest.raises(OSError, match="odd"), friendly_disk_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_a_file_in_place_of_the_workspace_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(WorkspaceError, match="Cannot write to"):
        Workspace(tmp_path / "runs").create(SPEC)


def test_a_workspace_that_cannot_be_written_is_told_in_words() -> None:
    """As nobody where the tests are root's, whom no permission holds back."""
    source = (
        "import os, sys\n"
        "from houndsight.workspace import Workspace, WorkspaceError; from houndsight.spec import ClassifierSpec\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: Workspace.find(sys.argv[1]).create(ClassifierSpec(data='dogs'))\n"
        "except WorkspaceError as error: print(error)"
    )
    with tempfile.TemporaryDirectory() as closed:
        Path(closed).chmod(0o555)
        done = subprocess.run([sys.executable, "-c", source, closed], capture_output=True, text=True, check=False)
        assert list(Path(closed).iterdir()) == []
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Cannot write to {closed}: Permission denied. Choose another folder with --workspace.\n"
