"""Folders that training refuses: the check says all that is wrong with them, and refuses only what holds nothing."""

from pathlib import Path

import pytest

import houndsight
from houndsight.errors import DataError
from houndsight.workspace import Workspace
from tests.data_check.test_classes import tree


def found(root: Path) -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    for each in houndsight.check(root).findings:
        rules.setdefault(each.rule, []).append(each.message)
    return rules


def test_everything_is_said_at_once(tmp_path: Path, workspace: Workspace) -> None:
    root = tree(tmp_path / "data", {"train/a": 6, "train/b": 6, "train/hollow": 0, "train/B": 6, "valid/zebra": 2})
    (root / "train/a/0.jpg").write_bytes(b"")
    (root / "train/b/9.jpg").write_bytes((root / "train/a/1.jpg").read_bytes())
    result = houndsight.check(root)
    rules = {each.rule for each in result.findings}
    assert rules >= {
        "cannot_train", "empty_class", "near_equal_names", "unknown_class", "missing_class", "unreadable",
        "exact_contradiction",
    }  # fmt: skip
    assert result.wrong
    assert result.classes["hollow"] == {"train": 0, "valid": 0}
    assert result.splits["train"]["images"] == 19


def test_one_class_only(tmp_path: Path, workspace: Workspace) -> None:
    assert "cannot_train" in found(tree(tmp_path / "data", {"a": 6}))


def test_the_wrong_root_is_named(tmp_path: Path, workspace: Workspace) -> None:
    tree(tmp_path / "data/dogImages", {"train/a": 3, "train/b": 3, "valid/a": 1, "valid/b": 1})
    result = houndsight.check(tmp_path / "data")
    assert [each.rule for each in result.findings] == ["wrong_root"]
    assert "./dogImages" in result.findings[0].repair


@pytest.mark.parametrize("name", ["nowhere", "empty", "file.txt"])
def test_where_there_is_nothing_to_look_at(tmp_path: Path, workspace: Workspace, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError):
        houndsight.check(tmp_path / name)


def test_the_result_is_kept_until_a_file_changes(tmp_path: Path, workspace: Workspace) -> None:
    root = tree(tmp_path / "data", {"a": 12, "b": 12})
    looked: list[int] = []
    for _ in range(2):
        houndsight.check(root, progress=lambda *now: looked.append(now[1]))
    assert looked == [24]
    picture = root / "a/3.jpg"
    data = picture.read_bytes()
    picture.write_bytes(data[:100] + bytes(len(data) - 100))
    result = houndsight.check(root)
    assert [each.files for each in result.findings if each.rule == "unreadable"] == [("a/3.jpg",)]


def test_a_link_in_a_circle_and_a_name_that_is_no_utf_8(tmp_path: Path, workspace: Workspace) -> None:
    root = tree(tmp_path / "data", {"a": 12, "b": 12})
    (root / "a/loop").symlink_to(root / "a")
    Path(str(root / "a") + "/\udcff.jpg").write_bytes((root / "a/0.jpg").read_bytes())
    assert "left_out" in found(root)
