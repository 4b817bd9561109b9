"""The check in a process of its own finds what it finds here, tells how far it is, and ends when it is told to."""

from pathlib import Path

import psutil
import pytest

from houndsight.data.check import check, kept
from houndsight.data.check_beside import check_beside
from houndsight.data.folder import scan
from houndsight.spec import Index
from houndsight.workspace import write_json
from tests.data_check.test_classes import tree


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return scan(tree(tmp_path / "data", {"train/a": 40, "train/b": 3, "valid/a": 4, "valid/b": 4}))


def test_the_same_findings_with_progress_and_only_once(index: Index, tmp_path: Path) -> None:
    file, cache, told = tmp_path / "index.json", tmp_path / "cache", list[tuple[str, int, int]]()
    write_json(file, index)
    found = check_beside(index, file, cache, workers=1, progress=lambda *each: told.append(each))
    assert found == check(index)
    assert found
    assert told[-1] == ("check", 51, 51)
    assert kept(index, cache) == found
    told.clear()
    assert check_beside(index, tmp_path / "is not read", cache, progress=lambda *each: told.append(each)) == found
    assert not told


def test_a_request_to_stop_ends_the_process(index: Index, tmp_path: Path) -> None:
    class AskedError(Exception):
        pass

    def stop(*_: object) -> None:
        raise AskedError

    file, cache = tmp_path / "index.json", tmp_path / "cache"
    write_json(file, index)
    with pytest.raises(AskedError):
        check_beside(index, file, cache, progress=stop)
    assert str(file) not in str([each.cmdline() for each in psutil.Process().children()])


def test_where_the_process_fails_the_check_is_made_here(index: Index, tmp_path: Path) -> None:
    found = check_beside(index, tmp_path / "there is no such file", tmp_path / "cache", progress=lambda *_: None)
    assert found == check(index)
