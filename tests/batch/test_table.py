"""The table that a batch writes: its rows, what is done again after a kill, and what it refuses to go on with."""

import csv
from pathlib import Path
from typing import Any

import pytest

from houndsight.errors import DataError, SpecError, WorkspaceError
from houndsight.verbs import batch
from houndsight.verbs.batch import Made, fill
from tests.serving.light import picture, predictor


def nobody(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 pictures in two folders, of growing brightness."""
    root = tmp_path / "images"
    for number in range(40):
        file = root / ("b" if number % 2 else "a") / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number * 6))
    return root


def made(root: Path, **other: Any) -> Made:
    return Made(**{"model": "m", "prepared": "p", "runtime": "test", "top": 2, "folder": str(root), **other})


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def listed(folder: Path) -> list[str]:
    return batch._files(folder)[0]


def test_a_row_an_image_in_the_order_of_the_paths(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "out" / "p.csv"
    seen: list[tuple[str, int, int]] = []
    found = fill(table, made(folder), listed(folder), predictor, lambda *each: seen.append(each))
    assert (found.images, found.fresh, found.errors) == (40, 40, 0)
    assert [row["path"] for row in rows(table)] == listed(folder)
    assert list(rows(table)[0]) == ["path", "class", "probability", "class_2", "probability_2", "error"]
    by_path = {row["path"]: row for row in rows(table)}
    assert by_path["a/00.png"]["class"] == "dark"
    assert by_path["b/39.png"]["class"] == "light"
    for row in rows(table):
        assert 1 / 3 < float(row["probability"]) <= 1
        assert float(row["probability_2"]) <= float(row["probability"])
    assert seen[0] == ("predict", 0, 40)
    assert seen[-1] == ("predict", 40, 40)


def test_images_that_cannot_be_read_are_listed_and_hurt_no_other(folder: Path, tmp_path: Path) -> None:
    (folder / "a" / "00.png").write_bytes(b"no image")
    (folder / "b" / "39.png").write_bytes(picture()[:60])
    (folder / "b" / "01.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    files, skipped = batch._files(folder)
    assert skipped == 1
    found = fill(tmp_path / "p.csv", made(folder), files, predictor, nobody)
    assert (found.images, found.errors) == (40, 3)
    assert {each["path"] for each in found.unreadable} == {"a/00.png", "b/01.png", "b/39.png"}
    broken = [row for row in rows(tmp_path / "p.csv") if row["error"]]
    assert len(broken) == 3
    assert all(not row["class"] and not row["probability_2"] for row in broken)
    assert sum(row["class"] != "" for row in rows(tmp_path / "p.csv")) == 37


@pytest.mark.parametrize("torn", ["", "a/10.p", 'a/10.png,gr"ey', "a/10.png,grey,0.9,dark,0.1,", "a/10.png,grey\n"])
def test_it_goes_on_where_it_was_killed(folder: Path, tmp_path: Path, torn: str) -> None:
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    files = listed(folder)
    fill(whole, made(folder), files, predictor, nobody)
    fill(cut, made(folder), files[:5], predictor, nobody)
    with cut.open("a") as file:
        file.write(torn)
    asked: list[int] = []
    found = fill(cut, made(folder), files, predictor, lambda stage, done, total: asked.append(total))
    assert (found.images, found.fresh) == (40, 35)
    assert asked[0] == 35
    assert cut.read_bytes() == whole.read_bytes()


def test_nothing_is_left_to_do_the_second_time(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    fill(table, made(folder), listed(folder), predictor, nobody)
    before = table.read_bytes()

    def opened() -> Any:
        raise AssertionError("no model is needed")

    assert fill(table, made(folder), listed(folder), opened, nobody).fresh == 0
    assert table.read_bytes() == before
    (folder / "a" / "99.png").write_bytes(picture())
    assert fill(table, made(folder), listed(folder), predictor, nobody).fresh == 1


def test_names_that_would_break_the_table(folder: Path, tmp_path: Path) -> None:
    names = ['with "quotes", and commas.png', "two\nlines.png", "ünï ☃.png", "=1+1.png"]
    for name in names:
        (folder / name).write_bytes(picture())
    (folder / "circle").symlink_to(folder)
    table = tmp_path / "p.csv"
    assert fill(table, made(folder), listed(folder), predictor, nobody).images == 44
    assert {"two\\nlines.png", names[0], names[2], names[3]} <= {row["path"] for row in rows(table)}
    assert fill(table, made(folder), listed(folder), predictor, nobody).fresh == 0


@pytest.mark.parametrize("other", [{"prepared": "q"}, {"top": 3}, {"folder": "/elsewhere"}])
def test_it_does_not_go_on_with_something_else(folder: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    table = tmp_path / "p.csv"
    fill(table, made(folder), listed(folder), predictor, nobody)
    before = table.read_bytes()
    with pytest.raises(SpecError, match="was begun with another"):
        fill(table, made(folder, **other), listed(folder), predictor, nobody)
    assert table.read_bytes() == before


def test_a_table_of_somebody_else_is_not_touched(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    table.write_text("my,own,table\n1,2,3\n")
    with pytest.raises(SpecError, match="not of Houndsight's making"):
        fill(table, made(folder), listed(folder), predictor, nobody)
    assert table.read_text() == "my,own,table\n1,2,3\n"


def test_two_do_not_write_one_table(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "p.csv"
    with batch._opened(table, made(folder)), pytest.raises(WorkspaceError, match="Another process is writing"):
        fill(table, made(folder), listed(folder), predictor, nobody)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        batch._files(tmp_path / "none")
    with pytest.raises(DataError, match="no image"):
        batch._files(tmp_path)
