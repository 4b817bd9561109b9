"""`houndsight check` as it is typed."""

import json
from pathlib import Path

import pytest

from houndsight.cli.app import run
from houndsight.spec import Finding
from houndsight.workspace import Workspace
from tests.data_check.test_classes import tree


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    root = tree(tmp_path / "data", {"train/a": 20, "train/b": 20, "valid/a": 5, "valid/b": 5, "test/a": 5, "test/b": 5})
    (root / "test/a/leak.jpg").write_bytes((root / "train/a/0.jpg").read_bytes())
    return root


def test_one_document_and_nothing_else(leaky: Path, workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(leaky), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["classes"]["a"] == {"train": 20, "valid": 5, "test": 6}
    assert document["splits"]["test"]["images"] == 11
    findings = [Finding.model_validate(each) for each in document["findings"]]
    assert findings[0].rule == "exact_leak"
    assert findings[0].evidence["groups"] == [["train/a/0.jpg", "test/a/leak.jpg"]]


def test_a_page_of_plain_lines(leaky: Path, workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(leaky), "--strict"]) == 1
    page = capfd.readouterr().out
    assert "2 classes; train 40, valid 10, test 11" in page
    assert "ERROR exact_leak: The same file stands once (2 files) across splits" in page
    assert "    train/a/0.jpg = test/a/leak.jpg" in page
    assert "\x1b" not in page


def test_the_list_it_writes_is_taken_again(
    leaky: Path, tmp_path: Path, workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(leaky), "--write", str(tmp_path / "clean.csv")]) == 0
    assert "60 files, 1 left out" in capfd.readouterr().err
    assert run(["check", str(tmp_path / "clean.csv"), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert not [each for each in document["findings"] if each["rule"] == "exact_leak"]
    assert document["splits"]["test"]["images"] == 11


def test_a_path_that_does_not_exist(tmp_path: Path, workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path / "nowhere"), "--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["kind"] == "DataError"


def test_a_list_into_a_folder_that_does_not_exist(leaky: Path, tmp_path: Path, workspace: Workspace) -> None:
    assert run(["check", str(leaky), "--write", str(tmp_path / "no/such/clean.csv")]) == 2
